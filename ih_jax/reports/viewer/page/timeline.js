// The slider over training: play, arrow keys, and a mark for each checkpoint.
(() => {
  const { ihv } = globalThis;
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  ihv.timeline = () => {
    const play = ihv.el("button", {
      type: "button",
      class: "play",
      "aria-label": "play",
      title: "play (space)",
      onclick: () => toggle(),
    });
    const slider = ihv.el("input", {
      type: "range",
      min: 0,
      step: 1,
      "aria-label": "time in training",
      oninput: () => ihv.set({ step: grid[slider.valueAsNumber] }),
    });
    const ticks = ihv.el("canvas", { class: "ticks", "aria-hidden": "true" });
    const now = ihv.el("output", { class: "time" });
    const node = ihv.el(
      "footer",
      { class: "timeline" },
      play,
      ihv.el("div", { class: "track" }, slider, ticks),
      now,
    );
    let grid = [0];
    let playing = false;
    let last = 0;

    function draw() {
      const { width } = ticks.getBoundingClientRect();
      const scale = devicePixelRatio;
      ticks.width = width * scale;
      ticks.height = 8 * scale;
      const context = ticks.getContext("2d");
      const run = ihv.runAt(ihv.state.run);
      const kept = new Set(run.details);
      const apart = (width - 16) / Math.max(1, grid.length - 1);
      const every = Math.max(1, Math.ceil(3 / apart)); // marks that would touch are left out
      grid.forEach((step, i) => {
        if (i % every && !(kept.has(step) && kept.size * 3 < width)) return;
        // The thumb's centre keeps 8 pixels from both ends.
        const x = 8 + ((width - 16) * i) / Math.max(1, grid.length - 1);
        context.fillStyle = ihv.ink(kept.has(step) ? "ink" : "faint");
        context.fillRect(
          (x - 0.5) * scale,
          0,
          Math.max(1, scale),
          (kept.has(step) ? 7 : 4) * scale,
        );
      });
    }
    new ResizeObserver(() => draw()).observe(ticks);

    function frame(at) {
      if (!playing) return;
      const wait = still.matches ? 1000 : Math.max(33, 8000 / grid.length);
      if (at - last >= wait) {
        last = at;
        const next = place() + 1;
        if (next >= grid.length) toggle(false);
        else ihv.set({ step: grid[next] });
      }
      if (playing) requestAnimationFrame(frame);
    }

    const place = () => ihv.nearest(grid, ihv.state.step);

    function toggle(on = !playing) {
      playing = on && grid.length > 1;
      if (playing && place() === grid.length - 1) ihv.set({ step: grid[0] });
      play.classList.toggle("on", playing);
      play.setAttribute("aria-label", playing ? "pause" : "play");
      if (playing) requestAnimationFrame(frame);
    }

    return {
      node,
      toggle,
      move: (by) => ihv.set({ step: grid[Math.max(0, Math.min(grid.length - 1, place() + by))] }),
      to: (end) => ihv.set({ step: end ? grid.at(-1) : grid[0] }),
      rebuild() {
        const chosen = [ihv.state.run, ihv.state.with].filter((i) => i >= 0).map(ihv.runAt);
        const steps = chosen.flatMap((run) => run.steps);
        grid = [...new Set(steps)].sort((a, b) => a - b);
        if (!grid.length)
          grid = ihv.sweep().seen.map((seen) => Math.round(seen / ihv.sweep().unit));
        slider.max = String(grid.length - 1);
        slider.disabled = play.disabled = grid.length < 2;
        draw();
        this.time();
      },
      time() {
        const i = place();
        slider.value = String(i);
        const step = grid[i];
        const sweep = ihv.sweep();
        const words = `${ihv.short(step * sweep.unit)} ${sweep.over}`;
        now.replaceChildren(
          ihv.el("b", { text: words }),
          ihv.el("small", {
            text: `step ${ihv.whole(step)} · checkpoint ${i + 1} of ${grid.length}`,
          }),
        );
        slider.setAttribute("aria-valuetext", `${words} seen, step ${step}`);
      },
    };
  };
})();
