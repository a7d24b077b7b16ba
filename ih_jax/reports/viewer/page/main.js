// Puts the views together, and tells them what has changed.
(() => {
  const { ihv } = globalThis;
  const KEYS = [
    ["← →", "one checkpoint back or on (with shift: ten)"],
    ["space", "play or pause"],
    ["home end", "first or last checkpoint"],
    ["[ ]", "run before or after"],
    ["{ }", "the run beside, before or after; x: none beside"],
    ["1–9", "sequence"],
    ["h", "strongest induction head"],
    ["/", "filter runs"],
    ["t", "light or dark"],
    ["?", "this help"],
  ];

  ihv.seen = () => ihv.state.step * ihv.sweep().unit;

  /** One run and all views of it. */
  function makePane(which) {
    const pane = {
      which,
      run: null,
      sweep: null,
      data: {},
      detail: 0,
      scored: 0,
      seen: 0,
      ready: false,
    };
    const title = ihv.el("div", { class: "pane-title" });
    const views = ["attention", "logits", "text", "scores", "wiring", "index"].map((name) =>
      ihv.views[name](pane),
    );
    pane.node = ihv.el("div", { class: `pane ${which}` }, title, ...views.map((view) => view.node));
    const at = () => {
      const { step } = ihv.state;
      pane.scored = ihv.nearest(pane.run.steps, step);
      pane.detail = ihv.nearest(pane.run.details, step);
      pane.seen = pane.run.steps.length ? pane.run.steps[pane.scored] * pane.sweep.unit : 0;
    };
    pane.rebuild = async (place) => {
      const sweep = ihv.sweep();
      const run = ihv.runAt(place);
      const data = await ihv.blob(`${ihv.state.sweep}/run-${run.id}`);
      if (ihv.runAt(ihv.state[which === "first" ? "run" : "with"]) !== run) return; // chosen again since
      Object.assign(pane, { sweep, run, data, ready: true });
      at();
      const held = run.held.length ? run.clamp : "nothing held";
      title.replaceChildren(
        ihv.el("i", { style: `background:${ihv.runColour(run)}` }),
        ihv.el("b", { text: `run ${run.id}: ${ihv.runName(run)}` }),
        ihv.el(
          "span",
          { class: "quiet", title: held },
          run.held.length ? ihv.lock({}) : "",
          ` ${held}`,
        ),
        run.found.diverged !== null
          ? ihv.el("span", {
              class: "verdict wrong",
              text: `diverged at ${ihv.short(run.found.diverged)}`,
            })
          : "",
      );
      for (const view of views) view.rebuild();
    };
    pane.redraw = () => {
      if (pane.ready) for (const view of views) view.rebuild();
    };
    pane.time = () => {
      if (!pane.ready) return;
      at();
      for (const view of views) view.time();
    };
    pane.sequence = () => {
      if (pane.ready) for (const view of views) view.sequence();
    };
    return pane;
  }

  function header() {
    const { about } = ihv;
    const sweeps = about.sweeps.map((sweep, i) => [i, sweep.name]);
    const choose = ihv.el("span", {});
    const theme = ihv.el("button", {
      type: "button",
      class: "icon",
      title: "light or dark (t)",
      "aria-label": "light or dark",
      text: "◐",
      onclick: dark,
    });
    const dialog = ihv.el(
      "dialog",
      { "aria-label": "keys" },
      ihv.el("h2", { text: "Keys" }),
      ihv.el(
        "dl",
        {},
        KEYS.map(([key, what]) => [ihv.el("dt", { text: key }), ihv.el("dd", { text: what })]),
      ),
      ihv.el("form", { method: "dialog" }, ihv.el("button", { text: "close" })),
    );
    const help = ihv.el("button", {
      type: "button",
      class: "icon",
      title: "keys (?)",
      "aria-label": "keys",
      text: "?",
      onclick: () => dialog.showModal(),
    });
    const found = ihv.el("p", { class: "headline" });
    const node = ihv.el(
      "header",
      { class: "top" },
      ihv.el("h1", { text: about.title }),
      choose,
      found,
      ihv.el("span", { class: "icons" }, theme, help),
      dialog,
    );
    return {
      node,
      help: () => (dialog.open ? dialog.close() : dialog.showModal()),
      rebuild() {
        if (sweeps.length > 1) {
          choose.replaceChildren(
            ihv.select("training", sweeps, ihv.state.sweep, (i) =>
              ihv.set({ sweep: Number(i), run: 0, with: -1, seq: 0, token: -1, head: "" }),
            ),
          );
        }
        found.textContent = headline(ihv.runAt(ihv.state.run), ihv.sweep());
      },
    };
  }

  /** When and in which head induction formed, in a sentence. */
  function headline(run, sweep) {
    const { found } = run;
    if (!found.strongest) return "";
    const head = found.strongest.join(".");
    const score = `${sweep.scores[0].name} ${ihv.fixed(found.strength)} at the end`;
    if (!found.heads.length)
      return `No induction head formed in run ${run.id}: the strongest is ${head}, ${score}.`;
    const first =
      run.steps[0] * sweep.unit === found.formed
        ? "was there from the start"
        : `formed by ${ihv.short(found.formed)} ${sweep.over}`;
    const more =
      found.heads.length > 1 ? ` ${found.heads.length} heads reach ${sweep.threshold}.` : "";
    return `Run ${run.id}: induction head ${head} ${first} (${score}).${more}`;
  }

  function notes() {
    const sweep = ihv.sweep();
    const blob =
      ihv.about.blobs[`${ihv.state.sweep}/run-${ihv.runAt(ihv.state.run).id}`]?.arrays ?? {};
    const errors = Object.entries(blob)
      .filter(([, about]) => !about.index)
      .map(([name, about]) => `${name.replace("score_", "")} ${(about.step / 2).toPrecision(2)}`);
    return ihv.el(
      "details",
      { class: "notes", open: sweep.notes.length > 0 && innerWidth > 760 },
      ihv.el("summary", { text: "About this page" }),
      ihv.el(
        "ul",
        {},
        sweep.notes.map((note) => ihv.el("li", { class: "important", text: note })),
        Object.entries(sweep.words).map(([name, what]) =>
          ihv.el("li", { text: `${name}: ${what}` }),
        ),
        ihv.el("li", {
          text: `Values are those of the measures named, rounded; at most off by: ${errors.join(", ") || "nothing"}.`,
        }),
        sweep.tiles.what
          ? ihv.el("li", {
              text:
                sweep.tiles.what === "swatches"
                  ? "Exemplars are swatches of their feature vectors, since the data holds no drawings: what looks alike is alike to the network."
                  : "Exemplars are their drawings.",
            })
          : null,
        ihv.el("li", {
          text: "Written by ih-jax view; curves by uPlot 1.6.32 (MIT licence, Leon Sorokin), whose licence is in this file.",
        }),
      ),
    );
  }

  function dark() {
    const root = document.documentElement;
    const now =
      root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    redraw();
  }

  const top = header();
  const curves = ihv.views.curves();
  const runs = ihv.views.runs();
  const panes = [makePane("first"), makePane("second")];
  const timeline = ihv.timeline();
  const foot = ihv.el("div", {});
  const main = ihv.el(
    "main",
    {},
    ihv.el("div", { class: "side" }, curves.node, runs.node, foot),
    ihv.el("div", { class: "panes" }, panes[0].node, panes[1].node),
  );

  function compare() {
    const on = ihv.state.with >= 0;
    main.classList.toggle("two", on);
    panes[1].node.hidden = !on;
  }

  async function rebuild(what) {
    const all = what.has("sweep");
    compare();
    top.rebuild();
    timeline.rebuild();
    if (all) runs.rebuild();
    runs.mark();
    foot.replaceChildren(notes());
    const waiting = [curves.rebuild()];
    if (all || what.has("run")) waiting.push(panes[0].rebuild(ihv.state.run));
    if (ihv.state.with >= 0 && (all || what.has("with")))
      waiting.push(panes[1].rebuild(ihv.state.with));
    await Promise.all(waiting);
    document.documentElement.dataset.ready = "1";
  }

  function redraw() {
    top.rebuild();
    timeline.rebuild();
    curves.rebuild();
    runs.rebuild();
    for (const pane of panes) pane.redraw();
  }

  let waiting = false;
  function time() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      timeline.time();
      curves.time();
      for (const pane of panes) if (pane.which === "first" || ihv.state.with >= 0) pane.time();
    });
  }

  ihv.listen((what) => {
    const has = (...keys) => keys.some((key) => what.has(key));
    if (has("sweep", "run", "with")) rebuild(what);
    else if (has("metric", "set", "log")) curves.rebuild();
    ihv.keepFocus(() => {
      if (has("seq")) for (const pane of panes) pane.sequence();
      if (has("score", "wire", "head")) for (const pane of panes) pane.redraw();
    });
    if (has("step", "token")) time();
  });

  document.addEventListener("keydown", (event) => {
    const typing =
      /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) &&
      event.target.type !== "range" &&
      event.target.type !== "checkbox";
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const { state } = ihv;
    const count = ihv.sweep().runs.length;
    const far = event.shiftKey ? 10 : 1;
    const around = (i, by) => (i + by + count) % count;
    const next = (by) => {
      let i = around(state.with < 0 ? state.run : state.with, by);
      if (i === state.run) i = around(i, by);
      return i === state.run ? -1 : i;
    };
    const acts = {
      ArrowLeft: () => timeline.move(-far),
      ArrowRight: () => timeline.move(far),
      Home: () => timeline.to(false),
      End: () => timeline.to(true),
      "[": () => ihv.set({ run: around(state.run, -1) }),
      "]": () => ihv.set({ run: around(state.run, 1) }),
      "{": () => ihv.set({ with: next(-1) }),
      "}": () => ihv.set({ with: next(1) }),
      x: () => ihv.set({ with: -1 }),
      h: () => ihv.set({ head: "" }),
      t: dark,
      "?": top.help,
      "/": runs.focus,
    };
    const isButton = event.target.tagName === "BUTTON";
    if (event.key === " " && !isButton) acts[" "] = () => timeline.toggle();
    if (/^[1-9]$/.test(event.key))
      acts[event.key] = () => ihv.set({ seq: Number(event.key) - 1, token: -1 });
    if (acts[event.key]) {
      event.preventDefault();
      acts[event.key]();
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  window.addEventListener("hashchange", () => {
    ihv.readAddress();
    rebuild(new Set(["sweep", "run", "with"]));
  });

  document.getElementById("app").append(top.node, main, timeline.node);
  const given = ihv.readAddress();
  if (!given.has("run")) {
    const formed = ihv.sweep().runs.findIndex((run) => run.found.heads?.length);
    ihv.state.run = Math.max(0, formed); // the first with something to see
  }
  if (!given.has("step")) {
    const end = ihv.runAt(ihv.state.run).steps.at(-1);
    ihv.state.step = end ?? Math.round(ihv.sweep().seen.at(-1) / ihv.sweep().unit);
  }
  if (typeof DecompressionStream === "undefined") {
    document.getElementById("app").textContent =
      "This browser is too old to unpack the page: use one of 2023 or later.";
  } else rebuild(new Set(["sweep", "run", "with"]));
})();
