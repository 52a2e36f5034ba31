// The event stream of the open page. Reopened when it is silent or broken; closed while the tab is hidden.

const RETRY_MIN = 500;
const RETRY_MAX = 5000;
/** Milliseconds without a message before the stream counts as lost. The server sends at least one per second. */
const SILENCE_MAX = 6000;
/** Milliseconds to wait for a response that tells why a stream failed. */
const PROBE_TIMEOUT = 1000;

export class Feed {
  /** `onState` receives every change of the connection: "connecting", "live", "lost" or "full". */
  constructor(onState) {
    this.onState = onState;
    this.source = null;
    this.timers = [];
    this.retryDelay = RETRY_MIN;
    this.state = "";
    addEventListener("online", () => this.reconnect());
    // A browser opens six connections per server for all its tabs: a hidden tab takes none.
    document.addEventListener("visibilitychange", () => (document.hidden ? this.close() : this.reconnect()));
  }

  /** Opens a stream in place of the previous one. `handlers` has a function per event name. */
  open(url, handlers) {
    this.url = url;
    this.handlers = handlers;
    this.connect();
  }

  close() {
    this.source?.close();
    this.source = null;
    this.timers.forEach(clearTimeout);
    this.timers = [];
  }

  reconnect() {
    if (this.url) this.connect();
  }

  connect() {
    this.close();
    if (document.hidden) return;
    if (this.state !== "live") this.setState(this.state || "connecting");
    const source = new EventSource(this.url);
    this.source = source;
    this.restartTimeout();
    for (const [name, handler] of Object.entries(this.handlers)) {
      source.addEventListener(name, (event) => {
        if (source !== this.source) return;
        this.retryDelay = RETRY_MIN;
        this.restartTimeout();
        this.setState("live");
        handler(JSON.parse(event.data));
      });
    }
    source.addEventListener("error", () => {
      if (source === this.source) this.onLost();
    });
  }

  restartTimeout() {
    clearTimeout(this.timers[0]);
    this.timers[0] = setTimeout(() => this.onLost(), SILENCE_MAX);
  }

  async onLost() {
    this.close();
    const url = this.url;
    const isFull = await isServerFull(url);
    // Another stream was opened meanwhile, or the tab was hidden.
    if (this.source || url !== this.url || document.hidden) return;
    this.setState(isFull ? "full" : "lost");
    this.timers[1] = setTimeout(() => this.connect(), this.retryDelay);
    this.retryDelay = Math.min(this.retryDelay * 1.6, RETRY_MAX);
  }

  setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.onState(state);
  }
}

/** Whether the server refuses the stream because too many pages are open: an EventSource does not tell why it failed. */
async function isServerFull(url) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), PROBE_TIMEOUT);
  try {
    return (await fetch(url, { signal: abort.signal })).status === 503;
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
    abort.abort();
  }
}
