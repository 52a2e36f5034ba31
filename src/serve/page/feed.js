// A stream from the server, for as long as a page is open and seen: found silent or broken, it is opened again.

const FIRST_WAIT = 500;
const LONGEST_WAIT = 5000;
/** The server speaks at least every second. */
const SILENCE = 6000;
/** One that says nothing for so long is not there. */
const ANSWER = 1000;

export class Feed {
  /** `told` is given every change of the connection: "connecting", "live", "lost" or "full". */
  constructor(told) {
    this.told = told;
    this.source = null;
    this.timers = [];
    this.wait = FIRST_WAIT;
    this.state = "";
    // A laptop that wakes up, or a network that is back, need not wait.
    addEventListener("online", () => this.again());
    // A browser has six connections to a server for all its tabs: one that is not looked at takes none.
    document.addEventListener("visibilitychange", () => (document.hidden ? this.close() : this.again()));
  }

  /** Opens a stream instead of the one before; `heard` has a function for each kind of event. */
  open(url, heard) {
    this.url = url;
    this.heard = heard;
    this.connect();
  }

  close() {
    this.source?.close();
    this.source = null;
    this.timers.forEach(clearTimeout);
    this.timers = [];
  }

  again() {
    if (this.url) this.connect();
  }

  connect() {
    this.close();
    if (document.hidden) return;
    if (this.state !== "live") this.tell(this.state || "connecting");
    const source = new EventSource(this.url);
    this.source = source;
    this.watch();
    for (const [name, hear] of Object.entries(this.heard)) {
      source.addEventListener(name, (event) => {
        if (source !== this.source) return;
        this.wait = FIRST_WAIT;
        this.watch();
        this.tell("live");
        hear(JSON.parse(event.data));
      });
    }
    source.addEventListener("error", () => {
      if (source === this.source) this.lose();
    });
  }

  watch() {
    clearTimeout(this.timers[0]);
    this.timers[0] = setTimeout(() => this.lose(), SILENCE);
  }

  async lose() {
    this.close();
    const url = this.url;
    const full = await refused(url);
    // Something else was opened meanwhile, or nobody looks any more.
    if (this.source || url !== this.url || document.hidden) return;
    this.tell(full ? "full" : "lost");
    this.timers[1] = setTimeout(() => this.connect(), this.wait);
    this.wait = Math.min(this.wait * 1.6, LONGEST_WAIT);
  }

  tell(state) {
    if (state === this.state) return;
    this.state = state;
    this.told(state);
  }
}

/** Whether the server is there and has too many pages open: a stream that fails does not say why. */
async function refused(url) {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), ANSWER);
  try {
    return (await fetch(url, { signal: stop.signal })).status === 503;
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
    stop.abort();
  }
}
