// DOM helpers. Text is inserted as text nodes, never as markup.

/** `el("td", { class: "number", onclick }, "text", child)`; `null` children are skipped. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Sets text only if it differs, which avoids a needless layout. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setClass(element, name, on) {
  element.classList.toggle(name, Boolean(on));
}

/** A group of buttons of which one is pressed. `choices` are `[value, label]` pairs. */
export function choice(label, choices, initial, onchange) {
  const buttons = choices.map(([value, text]) =>
    el("button", {
      type: "button",
      "aria-pressed": String(value === initial),
      onclick: () => {
        buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(choices[i][0] === value)));
        onchange(value);
      },
    }, text));
  return el("div", { class: "choice", role: "group", "aria-label": label }, ...buttons);
}

let hints = 0;

/** A button with a popover that explains it: touch and keyboard cannot hover. */
function hintButton(name, hint) {
  const id = `hint-${(hints += 1)}`;
  return [
    el("button", { type: "button", class: "hint", popovertarget: id }, name),
    el("div", { id, popover: "auto", class: "hint", role: "note" }, el("strong", {}, name), hint),
  ];
}

/** A number under its name. Returns the element and a function `set(text, unit, note, tone)`. */
export function tile(name, hint) {
  const heading = hint ? hintButton(name, hint) : [name];
  const value = el("b", {}, "–");
  const unit = el("span", { class: "unit" });
  const note = el("small", {}, "\u00a0");
  const element = el("div", { class: "tile", title: hint, role: "group", "aria-label": name }, el("h3", {}, heading[0]), el("p", {}, value, unit), note, ...heading.slice(1));
  const set = (text, unitText = "", noteText = "\u00a0", tone = "") => {
    setText(value, text);
    setText(unit, unitText ? `\u202f${unitText}` : "");
    setText(note, noteText || "\u00a0");
    element.dataset.tone = tone;
  };
  return { element, set };
}

/** A container that scrolls a table wider than the page, with the keyboard, too. */
export function scrollable(label, table) {
  return el("div", { class: "scrollable", role: "region", "aria-label": label, tabindex: "0" }, table);
}

/** The placeholder of an empty page. `text` is a string or a paragraph that is filled later. */
export function empty(title, text, ...more) {
  return el("div", { class: "empty" }, el("h2", {}, title), typeof text === "string" ? el("p", {}, text) : text, ...more);
}
