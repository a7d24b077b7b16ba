// Wiring: which heads of a later layer read what those of an earlier one write, as it grows.
(() => {
  const { ihv } = globalThis;
  const WIRES = ["Q", "K", "V"];
  const COLOURS = { Q: 0, K: 1, V: 2 };
  const LEAST = 0.05; // the widest line is the largest gain of the run, or this if none is as large

  ihv.views.wiring = (pane) => {
    const tools = ihv.el("span", { class: "tools" });
    const card = ihv.card("wiring", "Wiring", [tools]);
    const drawing = ihv.svg("svg", { class: "graph", role: "group", viewBox: "0 0 420 190" });
    const told = ihv.el("p", { class: "quiet small" });
    card.body.append(drawing, told);
    let edges = [];
    let nodes = [];
    let pair = -1;
    let full = LEAST;

    const pairs = () => {
      const found = [];
      for (let a = 0; a < pane.run.layers; a++) {
        for (let b = a + 1; b < pane.run.layers; b++) found.push([a, b]);
      }
      return found;
    };
    const shown = () => {
      const every = pairs();
      const wanted = ihv.headOf(pane.run)[0];
      const own = every.findIndex(([a, b]) => b === Math.max(1, wanted) && a === b - 1);
      return pair >= 0 && pair < every.length ? pair : Math.max(0, own);
    };

    function largest() {
      const { wiring } = pane.data;
      const [S, R, W, H] = wiring.shape;
      const size = R * W * H * H;
      const { baseline } = pane.sweep; // of one network alone, whose start is not known
      full = LEAST;
      for (let s = baseline === undefined ? 1 : 0; s < S; s++) {
        for (let i = 0; i < size; i++)
          full = Math.max(full, wiring.flat(s * size + i) - (baseline ?? wiring.flat(i)) || 0);
      }
    }

    function build() {
      const { run } = pane;
      const H = run.heads;
      drawing.replaceChildren();
      edges = [];
      nodes = [];
      const x = (h) => 30 + (360 * (h + 0.5)) / H;
      const [a, b] = pairs()[shown()];
      for (const wire of WIRES) {
        for (let k = 0; k < H; k++) {
          for (let h = 0; h < H; h++) {
            const shift = (WIRES.indexOf(wire) - 1) * 2.5;
            const node = ihv.svg("path", {
              d: `M${x(k) + shift} 148 C ${x(k) + shift} 100, ${x(h) + shift} 90, ${x(h) + shift} 42`,
              fill: "none",
              stroke: ihv.colour(COLOURS[wire]),
              "stroke-linecap": "round",
            });
            edges.push({ wire, k, h, node });
            drawing.append(node);
          }
        }
      }
      for (const [layer, y] of [
        [a, 162],
        [b, 28],
      ]) {
        drawing.append(ihv.svg("text", { x: 2, y: y + 4, class: "layer", text: `${layer}` }));
        for (let h = 0; h < H; h++) {
          const circle = ihv.svg("circle", { cx: x(h), cy: y, r: 13 });
          const lock = ihv.lock({ x: x(h) + 5, y: y - 18 });
          const group = ihv.svg(
            "g",
            { class: "node", tabindex: 0, role: "button" },
            circle,
            ihv.svg("text", { x: x(h), y: y + 4, text: `${layer}.${h}` }),
            lock,
          );
          const choose = () => ihv.set({ head: `${layer}.${h}` });
          group.setAttribute("aria-label", `head ${layer}.${h}`);
          group.addEventListener("click", choose);
          group.addEventListener("keydown", (event) => {
            if (event.key !== "Enter" && event.key !== " ") return;
            event.preventDefault();
            event.stopPropagation();
            choose();
          });
          drawing.append(group);
          nodes.push({ layer, h, group, lock });
        }
      }
    }

    return {
      node: card.node,
      rebuild() {
        card.node.hidden = !pane.data.wiring;
        if (card.node.hidden) return;
        const every = pairs();
        const wires = [...WIRES.map((w) => [w, `${w}-composition`]), ["all", "Q, K and V"]];
        tools.replaceChildren(
          ...(every.length > 1
            ? [
                ihv.select(
                  "layers",
                  every.map(([a, b], i) => [i, `layer ${a} to ${b}`]),
                  shown(),
                  (i) => {
                    pair = Number(i);
                    this.rebuild();
                  },
                ),
              ]
            : []),
          ihv.select("composition", wires, ihv.state.wire, (wire) => ihv.set({ wire })),
        );
        largest();
        build();
        this.time();
      },
      time() {
        if (card.node.hidden) return;
        const { run, data } = pane;
        const at = shown();
        const [L, H] = ihv.headOf(run);
        const [a, b] = pairs()[at];
        let most = { gain: -1 };
        for (const edge of edges) {
          const i = WIRES.indexOf(edge.wire);
          const now = data.wiring.get(pane.scored, at, i, edge.k, edge.h);
          const gain = now - (pane.sweep.baseline ?? data.wiring.get(0, at, i, edge.k, edge.h));
          const on = ihv.state.wire === "all" || ihv.state.wire === edge.wire;
          const width = on && gain > full / 50 ? (10 * gain) / full : 0;
          edge.node.dataset.value = now;
          edge.node.setAttribute("stroke-width", width.toFixed(2));
          const own = (b === L && edge.h === H) || (a === L && edge.k === H);
          edge.node.setAttribute("opacity", width ? (own ? 0.95 : 0.4) : 0);
          if (on && gain > most.gain) most = { gain, now, ...edge };
        }
        for (const { layer, h, group, lock } of nodes) {
          const holds = ihv.holdsOn(run, layer, h, pane.seen).filter((x) => x.on);
          lock.style.display = holds.length ? "" : "none";
          group.setAttribute(
            "class",
            `node${layer === L && h === H ? " chosen" : ""}${holds.some((x) => x.kind === "ablate") ? " ablated" : ""}`,
          );
        }
        const alone = pane.sweep.baseline !== undefined;
        const since = alone ? "that of random weights" : "its value at the start";
        const lead = alone ? "Strongest" : "Strongest gain";
        const words =
          most.gain > full / 50
            ? `${lead}: ${a}.${most.k} to ${b}.${most.h} by ${most.wire}, ${ihv.fixed(most.now)} (${ihv.fixed(most.gain)} more than ${since}).`
            : `No score is above ${since}${alone ? "" : " yet"}.`;
        told.textContent = `${words} Line widths: composition less ${since}, the widest ${ihv.fixed(full)}${alone ? "" : ", as much as any of the run gains"} (${pane.sweep.composition}).`;
        drawing.setAttribute("aria-label", `Heads of layer ${a} and ${b}. ${words}`);
      },
      sequence() {},
    };
  };
})();
