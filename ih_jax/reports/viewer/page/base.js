// Elements, numbers in words, colours: what every view needs.
(() => {
  const { ihv } = globalThis;
  const SVG = "http://www.w3.org/2000/svg";

  function fill(node, attributes, children) {
    for (const [key, value] of Object.entries(attributes ?? {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (key === "text") node.textContent = value;
      else if (key === "style") node.style.cssText = value;
      else node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return node;
  }

  ihv.el = (tag, attributes, ...children) =>
    fill(document.createElement(tag), attributes, children);
  ihv.svg = (tag, attributes, ...children) =>
    fill(document.createElementNS(SVG, tag), attributes, children);

  /** 0, 50k, 1.25M, as ticks of the figures. */
  ihv.short = (n) => {
    if (n === null || n === undefined || Number.isNaN(n)) return "–";
    const trim = (x) => String(Number(x.toPrecision(3)));
    if (Math.abs(n) >= 1e6) return `${trim(n / 1e6)}M`;
    return Math.abs(n) >= 1e3 ? `${trim(n / 1e3)}k` : trim(n);
  };
  ihv.whole = (n) => Math.round(n).toLocaleString("en");
  ihv.fixed = (x, digits = 2) => {
    if (x === null || x === undefined || Number.isNaN(x)) return "–";
    const said = x.toFixed(digits);
    return Number(said) === 0 ? said.replace("-", "") : said.replace("-", "−");
  };
  ihv.percent = (x) => (Number.isNaN(x) ? "–" : `${Math.round(100 * x)}%`);

  const style = () => getComputedStyle(document.documentElement);
  ihv.ink = (name) => style().getPropertyValue(`--${name}`).trim();

  /** The figures' colours; their black is the ink of the page's theme. */
  ihv.colour = (i) => {
    const found = ihv.about.colours[i % ihv.about.colours.length];
    return found === "#000000" ? ihv.ink("ink") : found;
  };

  /** A cell's colour between low and high: blue above 0, orange below. */
  ihv.shade = (value, low, high) => {
    if (Number.isNaN(value)) return "transparent";
    const share = Math.min(1, Math.abs(value) / Math.max(Math.abs(value < 0 ? low : high), 1e-9));
    const rgb = value < 0 ? "213, 94, 0" : "0, 114, 178";
    return `rgba(${rgb}, ${(0.06 + 0.94 * share).toFixed(3)})`;
  };

  ihv.lock = (attributes, open) =>
    ihv.svg(
      "svg",
      {
        viewBox: "0 0 12 14",
        width: 10,
        height: 12,
        class: "lock",
        "aria-hidden": "true",
        ...attributes,
      },
      ihv.svg("path", {
        d: open ? "M3 6V4a3 3 0 0 1 5.6-1.5" : "M3 6V4a3 3 0 0 1 6 0v2",
        fill: "none",
        stroke: "currentColor",
        "stroke-width": 1.6,
      }),
      ihv.svg("rect", { x: 1, y: 6, width: 10, height: 7, rx: 1.5, fill: "currentColor" }),
    );

  /** A card: a section with a heading, tools beside it, and a body. */
  ihv.card = (name, title, tools = [], help = "") => {
    const body = ihv.el("div", { class: "body" });
    const heading = ihv.el("h2", { text: title });
    const node = ihv.el(
      "section",
      { class: `card ${name}`, "aria-label": title },
      ihv.el("header", {}, heading, ihv.el("div", { class: "tools" }, tools)),
      body,
      help ? ihv.el("p", { class: "help", text: help }) : null,
    );
    return { node, body, heading };
  };

  /** A select of [value, text] pairs, with a name for screen readers. */
  ihv.select = (label, pairs, value, chosen) => {
    const node = ihv.el("select", { "aria-label": label, title: label });
    for (const [key, text] of pairs) node.append(ihv.el("option", { value: key, text }));
    node.value = String(value);
    node.addEventListener("change", () => chosen(node.value));
    return node;
  };

  /** Does work that may make buttons anew, and keeps the keyboard where it is. */
  ihv.keepFocus = (work) => {
    const was = document.activeElement;
    const card = was?.closest("section");
    const alike = () => (card ? [...card.querySelectorAll(was.tagName)] : []);
    const place = alike().indexOf(was);
    work();
    if (place >= 0 && !was.isConnected) alike()[place]?.focus({ preventScroll: true });
  };

  /** Arrow keys move the focus within a group of buttons laid out in rows of `columns()`. */
  ihv.roving = (group, columns) => {
    group.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns() };
      if (!(event.key in moves) || event.altKey || event.ctrlKey || event.metaKey) return;
      const buttons = [...group.querySelectorAll("button")];
      const next = buttons[buttons.indexOf(document.activeElement) + moves[event.key]];
      event.preventDefault();
      event.stopPropagation();
      if (next) {
        next.focus();
        if (group.dataset.follow) next.click();
      }
    });
  };
})();
