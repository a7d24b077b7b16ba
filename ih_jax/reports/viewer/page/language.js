// Language models: per-token loss over a text, and loss by token index over training.
(() => {
  const { ihv } = globalThis;

  /** A colour of loss: light for none, dark orange for as much as guessing. */
  const heat = (loss, most) => Math.max(0, Math.min(1, loss / most));

  ihv.views.text = (pane) => {
    const card = ihv.card("text", "What it would have said");
    const tokens = ihv.el("div", {
      class: "running",
      role: "group",
      "aria-label": "loss of each token",
    });
    const facts = ihv.el("div", { class: "facts" });
    const title = ihv.el("h3", {});
    const bars = ihv.el("div", { class: "bars" });
    card.body.append(tokens, facts, title, bars);
    const draw = ihv.headBars(bars);
    let nodes = [];
    tokens.dataset.follow = "1";
    ihv.roving(tokens, () => 12);

    function build() {
      const found = ihv.tokensOf(pane.sweep, pane.run, ihv.sequenceOf(pane));
      tokens.replaceChildren();
      nodes = found.map((token, i) => {
        const go = () => ihv.set({ token: Math.max(0, i - 1) });
        const node = ihv.el(
          "button",
          { type: "button", onmouseenter: go, onfocus: go, onclick: go },
          ihv.tokenFace(pane.sweep, token),
        );
        tokens.append(node);
        return { node, token };
      });
    }

    return {
      node: card.node,
      rebuild() {
        card.node.hidden = !pane.data.loss;
        if (card.node.hidden) return;
        build();
        this.time();
      },
      sequence() {
        this.rebuild();
      },
      time() {
        if (card.node.hidden) return;
        const { data, run, sweep } = pane;
        const s = ihv.sequenceOf(pane);
        const last = run.length - 2;
        const q = Math.min(ihv.queryOf(pane), last);
        const most = Math.log(sweep.vocabulary.length);
        nodes.forEach(({ node, token }, i) => {
          const loss = i ? data.loss.get(pane.detail, s, i - 1) : Number.NaN;
          node.style.setProperty("--heat", i ? heat(loss, most).toFixed(3) : 0);
          node.dataset.loss = i ? loss : "";
          node.classList.toggle("now", i === q + 1);
          node.setAttribute(
            "aria-label",
            i ? `${token.text}: loss ${ihv.fixed(loss)} nats` : token.text,
          );
        });
        const loss = data.loss.get(pane.detail, s, q);
        const word = (id) => ihv.tokenFace(sweep, { kind: "text", text: sweep.vocabulary[id] });
        const said = [0, 1, 2]
          .filter((i) => i < data.said.shape[3])
          .map((i) => {
            const id = data.said.get(pane.detail, s, q, i);
            return ihv.el(
              "span",
              {},
              word(id),
              ` ${ihv.percent(data.said_p.get(pane.detail, s, q, i))}`,
            );
          });
        const [L, H] = ihv.headOf(run);
        let where = 0;
        for (let k = 0; k <= q; k++) {
          if (ihv.attention(pane, L, H, q, k) > ihv.attention(pane, L, H, q, where)) where = k;
        }
        facts.replaceChildren(
          ihv.el(
            "div",
            {},
            ihv.el("span", { text: "next token" }),
            nodes[q + 1] ? word(nodes[q + 1].token.id) : "",
            ` loss ${ihv.fixed(loss)} nats, p ${ihv.percent(Math.exp(-loss))}`,
          ),
          ihv.el("div", {}, ihv.el("span", { text: "would have said" }), ...said),
          ihv.el(
            "div",
            {},
            ihv.el("span", { text: `head ${L}.${H} looked at` }),
            word(nodes[where].token.id),
            ` token ${where + 1}, ${ihv.percent(ihv.attention(pane, L, H, q, where))}`,
          ),
        );
        title.hidden = bars.hidden = !data.added;
        if (!data.added) return;
        title.textContent =
          "What each head adds to the next token's logit, less the mean over tokens";
        const values = [];
        for (let l = 0; l < run.layers; l++) {
          values.push([]);
          for (let h = 0; h < run.heads; h++)
            values[l].push(data.added.get(pane.detail, s, q, l, h));
        }
        draw(run, values, null, ihv.headColour(run));
      },
    };
  };

  ihv.views.index = (pane) => {
    const card = ihv.card("index", "Loss by token index over training");
    const canvas = ihv.el("canvas", { role: "img" });
    const line = ihv.el("div", { class: "time-line", "aria-hidden": "true" });
    const frame = ihv.el("div", { class: "heatmap" }, canvas, line);
    const scale = ihv.el("p", { class: "quiet small" });
    card.body.append(frame, scale);
    frame.addEventListener("click", (event) => {
      const box = frame.getBoundingClientRect();
      const { steps } = pane.run;
      const share = (event.clientX - box.left) / box.width;
      ihv.set({ step: Math.round(steps[0] + share * (steps.at(-1) - steps[0])) });
    });
    return {
      node: card.node,
      rebuild() {
        const values = pane.data.loss_by_token;
        card.node.hidden = !values;
        if (card.node.hidden) return;
        const { steps } = pane.run;
        const [S, T] = values.shape;
        const width = 300;
        canvas.width = width;
        canvas.height = T;
        const context = canvas.getContext("2d");
        const image = context.createImageData(width, T);
        let low = Number.POSITIVE_INFINITY;
        let high = 0;
        for (let i = 0; i < S * T; i++) {
          const x = values.flat(i);
          if (x < low) low = x;
          if (x > high) high = x;
        }
        for (let x = 0; x < width; x++) {
          const s = ihv.nearest(steps, steps[0] + ((x + 0.5) / width) * (steps.at(-1) - steps[0]));
          for (let t = 0; t < T; t++) {
            const share = (values.get(s, t) - low) / (high - low || 1);
            const at = 4 * ((T - 1 - t) * width + x);
            image.data.set([213, 94, 0, 255 * share], at);
          }
        }
        context.putImageData(image, 0, 0);
        const words = `token 1 at the bottom to ${T} at the top; from ${ihv.fixed(low)} (light) to ${ihv.fixed(high)} nats (dark)`;
        scale.textContent = `${words}; ${pane.sweep.over} seen to the right, as in the curves; measures.context.loss_by_token`;
        canvas.setAttribute("aria-label", `Loss by token index over training: ${words}`);
        this.time();
      },
      time() {
        if (card.node.hidden) return;
        const { steps } = pane.run;
        const span = steps.at(-1) - steps[0] || 1;
        const share = (pane.seen / pane.sweep.unit - steps[0]) / span;
        line.style.left = `${(100 * Math.max(0, Math.min(1, share))).toFixed(2)}%`;
      },
      sequence() {},
    };
  };
})();
