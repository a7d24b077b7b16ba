// One network at one checkpoint: the views that a notebook asks for, in place of main.js.
(() => {
  const { ihv } = globalThis;
  const sweep = ihv.sweep();
  const [run] = sweep.runs;
  const pane = { which: "first", sweep, run, data: {}, detail: 0, scored: 0, seen: run.steps[0] };
  const views = ihv.about.views.map((name) => ihv.views[name](pane));
  const node = ihv.el(
    "div",
    { class: views.length > 1 ? "pane" : "pane alone" },
    ihv.el(
      "div",
      { class: "pane-title" },
      ihv.el("b", { text: ihv.about.title }),
      ihv.el("span", { class: "quiet" }, run.held.length ? ihv.lock({}) : "", ` ${sweep.said}`),
    ),
    views.map((view) => view.node),
    sweep.notes.map((note) => ihv.el("p", { class: "quiet small note", text: note })),
  );
  const app = document.getElementById("app");
  app.className = "network";
  app.append(node);

  ihv.listen((what) => {
    for (const view of views) {
      if (what.has("seq")) view.sequence();
      else if (["head", "score", "wire"].some((key) => what.has(key))) view.rebuild();
      else if (what.has("token")) view.time();
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const view of views) view.rebuild();
  });

  /** A notebook's frame is as high as what it holds, where the notebook allows it. */
  function fit() {
    try {
      frameElement.style.height = `${app.offsetHeight + 2}px`;
    } catch {
      // Not in a frame, or in one that is closed to us: it keeps its height and scrolls.
    }
  }

  async function start() {
    pane.data = await ihv.blob("0/run-0");
    for (const view of views) view.rebuild();
    new ResizeObserver(fit).observe(app);
    document.documentElement.dataset.ready = "1";
  }
  if (typeof DecompressionStream === "undefined") {
    app.textContent = "This browser is too old to unpack the view: use one of 2023 or later.";
  } else start();
})();
