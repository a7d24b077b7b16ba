// What the network answers at the query, and what each head adds to it.
(() => {
  const { ihv } = globalThis;

  /** Bars of what each head adds, in logits; `values` [layer][head], then the rest. */
  function headBars(host) {
    let bars = [];
    let key = "";
    return (run, values, rest, colourOf) => {
      const now = `${run.layers}.${run.heads}.${rest === null}`;
      if (now !== key) {
        key = now;
        bars = [];
        host.replaceChildren();
        for (let l = 0; l < run.layers; l++) {
          for (let h = 0; h < run.heads; h++) bars.push(bar(`${l}.${h}`));
        }
        if (rest !== null) bars.push(bar("rest"));
        host.append(...bars.map((b) => b.node));
      }
      const every = [...values.flat(), ...(rest === null ? [] : [rest])];
      const most = Math.max(1, ...every.filter(Number.isFinite).map(Math.abs));
      every.forEach((x, i) => {
        const share = (50 * Math.abs(x || 0)) / most;
        bars[i].fill.style.cssText =
          `${x < 0 ? "right" : "left"}:50%;width:${share.toFixed(2)}%;background:${colourOf(i)}`;
        const words = ihv.fixed(x);
        if (bars[i].value.textContent !== words) bars[i].value.textContent = words;
        bars[i].node.dataset.value = x;
      });
    };
  }

  function bar(name) {
    const fill = ihv.el("i", {});
    const value = ihv.el("b", {});
    const node = ihv.el(
      "div",
      { class: "bar" },
      ihv.el("span", { text: name }),
      ihv.el("em", {}, fill),
      value,
    );
    return { node, fill, value };
  }

  const headColour = (run) => (i) =>
    i >= run.layers * run.heads ? ihv.ink("quiet") : ihv.colour(i % run.heads);
  ihv.headBars = headBars;
  ihv.headColour = headColour;

  ihv.views.logits = (pane) => {
    const card = ihv.card("logits", "Answer", [], "");
    const answers = ihv.el("div", { class: "answers", role: "group", "aria-label": "labels" });
    const title = ihv.el("h3", {});
    const added = ihv.el("div", { class: "bars" });
    card.body.append(answers, title, added);
    const draw = headBars(added);
    let rows = [];
    let chosen = -1;
    answers.dataset.follow = "1";
    ihv.roving(answers, () => 1);

    function build() {
      const { sweep, data } = pane;
      const C = data.logits.shape[3];
      rows = [];
      answers.replaceChildren();
      for (let c = 0; c < Math.min(C, 12); c++) {
        const fill = ihv.el("i", {});
        const value = ihv.el("b", {});
        const score = ihv.el("small", {});
        const node = ihv.el(
          "button",
          {
            type: "button",
            class: "answer",
            onclick: () => {
              chosen = c;
              view.time();
            },
          },
          ihv.labelChip(sweep, c),
          ihv.el("em", {}, fill),
          value,
          score,
        );
        rows.push({ node, fill, value, score });
        answers.append(node);
      }
    }

    const view = {
      node: card.node,
      rebuild() {
        card.node.hidden = !pane.data.logits;
        if (card.node.hidden) return;
        chosen = -1;
        build();
        this.time();
      },
      time() {
        if (card.node.hidden) return;
        const { data, run, sweep } = pane;
        const s = ihv.sequenceOf(pane);
        const q = ihv.queryOf(pane);
        const logits = rows.map((_, c) => {
          const logit = data.logits.get(pane.detail, s, q, c);
          return Number.isNaN(logit) ? Number.NEGATIVE_INFINITY : logit; // excluded by a clamp
        });
        const target = ihv.targetOf(sweep, run, s);
        const atQuery = q === run.length - 1;
        const probable = sweep.kind === "fewshot";
        const top = Math.max(...logits);
        const sum = logits.reduce((a, x) => a + Math.exp(x - top), 0);
        const said = logits.indexOf(top);
        rows.forEach((row, c) => {
          const p = probable
            ? Math.exp(logits[c] - top) / sum
            : Math.abs(logits[c]) / Math.max(1e-9, ...logits.map(Math.abs));
          row.fill.style.width = `${(100 * p).toFixed(2)}%`;
          row.value.textContent = probable ? ihv.percent(p) : "";
          row.score.textContent = Number.isFinite(logits[c]) ? ihv.fixed(logits[c]) : "−∞";
          row.node.dataset.logit = logits[c];
          row.node.dataset.p = p;
          row.node.classList.toggle("target", atQuery && c === target);
          row.node.setAttribute("aria-pressed", String(c === (chosen < 0 ? target : chosen)));
          row.node.setAttribute(
            "aria-label",
            `${sweep.vocabulary[c] ?? c}: ${probable ? `probability ${ihv.percent(p)}, ` : ""}logit ${ihv.fixed(logits[c])}`,
          );
        });
        const right = said === target;
        card.heading.replaceChildren(
          sweep.kind === "other"
            ? `Output at token ${q + 1}`
            : atQuery
              ? "Answer at the query"
              : `Logits at token ${q + 1} (not trained)`,
          target !== null && atQuery
            ? ihv.el("span", {
                class: right ? "verdict right" : "verdict wrong",
                text: right ? "✓ right" : "✗ wrong",
              })
            : "",
        );
        const c = chosen < 0 ? (target ?? 0) : chosen;
        const has = data.added && atQuery;
        added.hidden = !has;
        title.textContent = has
          ? `What each head adds to the logit of ${sweep.vocabulary[c] ?? c}`
          : data.added
            ? "What each head adds is kept for the query, the last token."
            : "";
        if (!has) return;
        const values = [];
        let total = 0;
        for (let l = 0; l < run.layers; l++) {
          values.push([]);
          for (let h = 0; h < run.heads; h++) {
            values[l].push(data.added.get(pane.detail, s, l, h, c));
            total += values[l][h];
          }
        }
        draw(run, values, logits[c] - total, headColour(run));
      },
      sequence() {
        chosen = -1;
        this.time();
      },
    };
    return view;
  };
})();
