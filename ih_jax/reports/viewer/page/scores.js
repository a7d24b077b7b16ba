// Scores of heads: lines over training, and a map layer x head at the slider's time.
(() => {
  const { ihv } = globalThis;
  const DASHES = [[4, 3], undefined, [8, 3], [2, 2], [10, 3, 2, 3], [1, 2]];

  ihv.views.scores = (pane) => {
    const tools = ihv.el("span", {});
    const card = ihv.card("scores", "Heads over training", [tools]);
    const about = ihv.el("p", { class: "quiet small" });
    const host = ihv.el("div", { class: "plot" });
    const map = ihv.el("div", {
      class: "map",
      role: "group",
      "aria-label": "scores by layer and head",
    });
    map.dataset.follow = "1";
    card.body.append(host, map, about);
    let cells = [];
    ihv.roving(map, () => pane.run.heads);

    const score = () =>
      pane.sweep.scores.find((each) => each.key === ihv.state.score) ?? pane.sweep.scores[0];
    const values = () => pane.data[`score_${score().key}`];

    const chart = ihv.lines(
      host,
      () => {
        const { run, sweep } = pane;
        const own = values();
        const [L, H] = ihv.headOf(run);
        const series = [];
        for (let l = 0; l < run.layers; l++) {
          for (let h = 0; h < run.heads; h++) {
            const y = run.steps.map((_, i) => {
              const x = own.get(i, l, h);
              return Number.isNaN(x) ? null : x;
            });
            if (y.every((x) => x === null)) continue;
            const bold = l === L && h === H;
            series.push({
              y,
              colour: ihv.colour(h),
              dash: l === run.layers - 1 ? undefined : DASHES[l],
              width: bold ? 3 : 1.3,
              alpha: bold ? 1 : 0.75,
              head: `${l}.${h}`,
            });
          }
        }
        return {
          x: run.steps.map((s) => s * sweep.unit),
          series,
          xLabel: `${sweep.over} seen`,
          label: score().name,
          range: [score().low, score().high],
        };
      },
      (seen, series) =>
        ihv.set({
          step: Math.round(seen / pane.sweep.unit),
          ...(series ? { head: series.head } : {}),
        }),
    );

    function build() {
      const { run } = pane;
      map.style.setProperty("--columns", run.heads);
      map.replaceChildren();
      cells = [];
      for (let l = 0; l < run.layers; l++) {
        const known = Array.from({ length: run.heads }, (_, h) => values().get(pane.scored, l, h));
        if (known.every(Number.isNaN)) continue;
        map.append(ihv.el("span", { class: "row-name", text: `layer ${l}` }));
        for (let h = 0; h < run.heads; h++) {
          const node = ihv.el("button", {
            type: "button",
            onclick: () => ihv.set({ head: `${l}.${h}` }),
          });
          node.style.setProperty("--head", ihv.colour(h));
          map.append(node);
          cells.push({ l, h, node });
        }
      }
      map.append(ihv.el("span", { class: "row-name", text: "head" }));
      for (let h = 0; h < run.heads; h++) {
        const swatch = ihv.el("span", { class: "column-name", text: String(h) });
        swatch.style.setProperty("--head", ihv.colour(h));
        map.append(swatch);
      }
    }

    return {
      node: card.node,
      rebuild() {
        card.node.hidden = !pane.sweep.scores.length || !values();
        if (card.node.hidden) return;
        const pairs = pane.sweep.scores.map((each) => [each.key, each.name]);
        tools.replaceChildren(
          ihv.select("score", pairs, score().key, (key) => ihv.set({ score: key })),
        );
        const first = Array.from({ length: pane.run.heads }, (_, h) => values().get(0, 0, h));
        const several = pane.run.layers > 1 && !first.every(Number.isNaN);
        const once = pane.run.steps.length < 2; // a map says it all
        const lines = several && !once ? " Dashed lines: earlier layers." : "";
        about.textContent = `${score().about}; ${score().source}, ${pane.sweep.probe} sequences.${lines}`;
        build();
        host.hidden = once;
        card.heading.textContent = once ? "Scores of heads" : "Heads over training";
        if (!once) chart.draw();
        this.time();
      },
      time() {
        if (card.node.hidden) return;
        chart.time(pane.seen);
        const own = values();
        const [L, H] = ihv.headOf(pane.run);
        for (const { l, h, node } of cells) {
          const x = own.get(pane.scored, l, h);
          node.dataset.value = x;
          node.textContent = Number.isNaN(x) ? "" : ihv.fixed(x).replace("0.", ".");
          node.style.background = ihv.shade(x, score().low, score().high);
          const strong = Math.abs(x) > 0.55 * (x < 0 ? -score().low : score().high);
          node.classList.toggle("strong", strong);
          node.setAttribute("aria-pressed", String(l === L && h === H));
          node.setAttribute("aria-label", `head ${l}.${h}, ${score().name} ${ihv.fixed(x)}`);
        }
      },
      sequence() {},
    };
  };
})();
