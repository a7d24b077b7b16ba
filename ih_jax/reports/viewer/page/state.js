// What is chosen, kept in the address bar: #run=12&step=3000&head=1.3 ...
(() => {
  const { ihv } = globalThis;
  const listeners = [];
  const start = {
    sweep: 0,
    run: 0, // place in the sweep's list of runs
    with: -1, // the run beside it; -1: none
    step: 0,
    head: "",
    seq: 0,
    token: -1, // whose attention is looked at; -1: the last
    metric: "loss",
    set: "",
    score: "",
    wire: "K",
    log: 0,
  };
  const state = { ...start };
  ihv.state = state;

  const number = (key) => typeof start[key] === "number";

  ihv.sweep = () => ihv.about.sweeps[state.sweep];
  ihv.runAt = (place) => ihv.sweep().runs[place];

  function read() {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const key of Object.keys(start)) {
      if (!given.has(key)) continue;
      const text = given.get(key);
      if (!number(key)) state[key] = text;
      else if (Number.isFinite(Number(text))) state[key] = Math.round(Number(text));
    }
    if (!(state.sweep in ihv.about.sweeps)) state.sweep = 0;
    const place = (id) => ihv.sweep().runs.findIndex((run) => run.id === id);
    if (given.has("run")) state.run = Math.max(0, place(state.run));
    if (given.has("with")) state.with = place(state.with);
    return given;
  }

  let timer = 0;
  function write() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const said = new URLSearchParams();
      for (const key of Object.keys(start)) {
        let value = state[key];
        if (key === "run" || key === "with") value = ihv.runAt(value)?.id ?? -1;
        if (key === "run" || key === "step" || value !== start[key]) {
          if (!(key === "with" && value === -1)) said.set(key, value);
        }
      }
      try {
        history.replaceState(null, "", `#${said}`);
      } catch {
        // A frame of a notebook has no address of its own.
      }
    }, 120);
  }

  ihv.listen = (listener) => listeners.push(listener);
  ihv.set = (changes) => {
    const changed = Object.keys(changes).filter((key) => state[key] !== changes[key]);
    if (!changed.length) return;
    Object.assign(state, changes);
    write();
    const what = new Set(changed);
    for (const listener of listeners) listener(what);
  };
  ihv.readAddress = read;

  /** The head that is looked at, [layer, head], within a run's model. */
  ihv.headOf = (run) => {
    const [layer, head] = (state.head || "").split(".").map(Number);
    if (layer < run.layers && head < run.heads) return [layer, head];
    return run.found.strongest ?? [run.layers - 1, 0];
  };

  /** The place, among rising steps, of the one nearest to a step. */
  ihv.nearest = (steps, step) => {
    let best = 0;
    for (let i = 1; i < steps.length; i++) {
      if (Math.abs(steps[i] - step) <= Math.abs(steps[best] - step)) best = i;
    }
    return best;
  };

  /** Runs differ in the axes with several labels; "match, init 5". */
  ihv.runName = (run, sweep = ihv.sweep()) => {
    const axes = Object.keys(sweep.axes).filter((axis) => sweep.axes[axis].length > 1);
    const said = axes.map((axis) =>
      axis === "clamp" ? String(run.names.clamp) : `${axis} ${run.names[axis]}`,
    );
    return said.join(", ") || `run ${run.id}`;
  };

  /** Runs of one clamp (or else of one label of the first axis that varies) share a colour. */
  ihv.runColour = (run, sweep = ihv.sweep()) => {
    const axes = Object.keys(sweep.axes).filter((axis) => sweep.axes[axis].length > 1);
    const axis = axes.find((each) => each !== "init") ?? axes[0];
    if (!axis) return ihv.colour(7);
    const place = sweep.axes[axis].indexOf(run.names[axis]);
    return axis === "clamp" && run.names.clamp === "none" ? ihv.colour(7) : ihv.colour(place % 7);
  };

  /** What holds a head of a layer (or null: the layer's input, all heads), with whether it is on. */
  ihv.holdsOn = (run, layer, head, seen) => {
    const found = run.held.filter(
      (held) => held.layer === layer && held.heads !== null && held.heads.includes(head),
    );
    return found.map((held) => ({
      ...held,
      on: seen >= held.start && (held.stop === null || seen < held.stop),
      pulse: held.start > 0 || held.stop !== null,
    }));
  };
})();
