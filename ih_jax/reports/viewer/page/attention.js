// A run's attention: every head as a small pattern, one of them large, a sequence to point at.
(() => {
  const { ihv } = globalThis;
  ihv.views ??= {};

  /** Attention of query q to key k, of a head and sequence, at the pane's checkpoint. */
  ihv.attention = (pane, layer, head, q, k) => {
    if (k > q) return 0;
    const base = pane.data.pattern.offset(pane.detail, ihv.sequenceOf(pane), layer, head);
    return pane.data.pattern.flat(base + (q * (q + 1)) / 2 + k);
  };
  ihv.sequenceOf = (pane) =>
    Math.max(0, Math.min(ihv.state.seq, ihv.sequenceCount(pane.sweep, pane.run) - 1));
  ihv.queryOf = (pane) => {
    // What follows the last token of a text is not known: the one before it is shown at first.
    const last = pane.run.length - 1;
    const { token } = ihv.state;
    if (token >= 0 && token <= last) return token;
    return pane.sweep.kind === "language" ? last - 1 : last;
  };

  function paint(canvas, pane, layer, head) {
    const T = pane.run.length;
    const context = canvas.getContext("2d");
    const image = context.createImageData(T, T);
    const { pattern } = pane.data;
    let at = pattern.offset(pane.detail, ihv.sequenceOf(pane), layer, head);
    for (let q = 0; q < T; q++) {
      for (let k = 0; k <= q; k++) {
        const to = 4 * (q * T + k);
        image.data[to + 1] = 114;
        image.data[to + 2] = 178;
        image.data[to + 3] = 255 * pattern.flat(at++);
      }
    }
    context.putImageData(image, 0, 0);
  }

  const pulseWords = (held) =>
    held.pulse
      ? `${ihv.short(held.start)}–${held.stop === null ? "end" : ihv.short(held.stop)}`
      : "";

  ihv.views.attention = (pane) => {
    const picker = ihv.el("div", { class: "picker", role: "group", "aria-label": "sequence" });
    const card = ihv.card("attention", "Attention", [picker]);
    const heads = ihv.el("div", { class: "heads", role: "group", "aria-label": "heads" });
    const heldNote = ihv.el("p", { class: "held" });
    const large = ihv.el("div", { class: "large" });
    const strip = ihv.el("div", { class: "strip", role: "group", "aria-label": "tokens" });
    const told = ihv.el("p", { class: "told", "aria-live": "off" });
    const matrix = ihv.el("canvas", { class: "matrix", role: "img" });
    const grid = ihv.el("div", { class: "matrix-frame" });
    const pointed = ihv.el("div", { class: "pointed" }, told, strip);
    card.body.append(heldNote, heads, ihv.el("div", { class: "look" }, pointed, large));
    let buttons = [];
    let tokens = [];
    let columns = 1;
    ihv.roving(heads, () => columns);
    ihv.roving(strip, () => 8);
    ihv.roving(picker, () => 20);
    heads.dataset.follow = strip.dataset.follow = picker.dataset.follow = "1";

    function sequences() {
      const { sweep, run } = pane;
      const count = ihv.sequenceCount(sweep, run);
      picker.replaceChildren(ihv.el("span", { class: "quiet", text: "sequence" }));
      for (let i = 0; i < count; i++) {
        const wrong = sweep.hard[i] > 0;
        const title = wrong
          ? `sequence ${i + 1}: ${sweep.hard[i]} of the networks get it wrong at the end`
          : `sequence ${i + 1}`;
        picker.append(
          ihv.el("button", {
            type: "button",
            "aria-pressed": String(i === ihv.sequenceOf(pane)),
            "aria-label": title,
            title,
            class: wrong ? "hard" : "",
            text: String(i + 1),
            onclick: () => ihv.set({ seq: i, token: -1 }),
          }),
        );
      }
    }

    function headGrid() {
      const { run } = pane;
      columns = run.heads;
      heads.style.setProperty("--columns", columns);
      buttons = [];
      heads.replaceChildren();
      for (let l = 0; l < run.layers; l++) {
        for (let h = 0; h < run.heads; h++) {
          const canvas = ihv.el("canvas", { width: run.length, height: run.length });
          const mark = ihv.el("span", { class: "mark" });
          const button = ihv.el(
            "button",
            { type: "button", class: "head", onclick: () => ihv.set({ head: `${l}.${h}` }) },
            canvas,
            ihv.el("span", { class: "name", text: `${l}.${h}` }),
            mark,
          );
          heads.append(button);
          buttons.push({ l, h, canvas, button, mark, state: "" });
        }
      }
    }

    function stripOf() {
      const { run, sweep } = pane;
      tokens = ihv.tokensOf(sweep, run, ihv.sequenceOf(pane));
      strip.className = `strip ${sweep.kind}${tokens.length > 12 ? " long" : ""}`;
      strip.replaceChildren();
      tokens.forEach((token, i) => {
        const share = ihv.el("span", { class: "share" });
        const name = token.query ? `query, ${token.text}` : token.text;
        const node = ihv.el(
          "button",
          {
            type: "button",
            class: `token ${token.kind}`,
            "aria-label": `token ${i + 1}: ${name}`,
            title: name,
            onmouseenter: () => ihv.set({ token: i }),
            onclick: () => ihv.set({ token: i }),
            onfocus: () => ihv.set({ token: i }),
          },
          ihv.tokenFace(sweep, token),
          share,
        );
        strip.append(node);
        token.node = node;
        token.share = share;
      });
    }

    function largeOf() {
      const { run, sweep } = pane;
      matrix.width = matrix.height = run.length;
      const named = run.length <= 12;
      grid.replaceChildren();
      grid.className = named ? "matrix-frame named" : "matrix-frame";
      grid.style.setProperty("--tokens", run.length);
      if (named) {
        const face = (token, where) =>
          ihv.el("span", { class: `edge ${where}` }, ihv.tokenFace(sweep, token));
        grid.append(
          ihv.el("span", { class: "corner", text: "query ↓ key →" }),
          ihv.el(
            "div",
            { class: "top" },
            tokens.map((t) => face(t, "of-key")),
          ),
          ihv.el(
            "div",
            { class: "left" },
            tokens.map((t) => face(t, "of-query")),
          ),
        );
      }
      grid.append(matrix);
      large.replaceChildren(grid);
    }

    matrix.addEventListener("mousemove", (event) => {
      const box = matrix.getBoundingClientRect();
      const row = Math.floor(((event.clientY - box.top) / box.height) * pane.run.length);
      ihv.set({ token: Math.max(0, Math.min(pane.run.length - 1, row)) });
    });

    return {
      node: card.node,
      rebuild() {
        const without = !pane.data.pattern;
        card.body.classList.toggle("empty", without);
        card.body.dataset.empty = without
          ? "No attention patterns of this run are in this page: see the notes below."
          : "";
        if (without) return;
        sequences();
        headGrid();
        stripOf();
        largeOf();
        const other = pane.run.held.filter((held) => held.layer === null || held.heads === null);
        heldNote.replaceChildren();
        for (const held of other) {
          heldNote.append(
            ihv.el(
              "span",
              {},
              ihv.lock({}),
              ` ${held.words} ${pulseWords({ ...held, pulse: held.start > 0 || held.stop !== null })}`,
            ),
          );
        }
        this.time();
      },
      time() {
        if (!pane.data.pattern) return;
        const { run } = pane;
        const [L, H] = ihv.headOf(run);
        for (const each of buttons) {
          paint(each.canvas, pane, each.l, each.h);
          const holds = ihv.holdsOn(run, each.l, each.h, pane.seen);
          const chosen = each.l === L && each.h === H;
          const state = JSON.stringify([chosen, holds.map((x) => [x.kind, x.on])]);
          if (state === each.state) continue;
          each.state = state;
          each.button.setAttribute("aria-pressed", String(chosen));
          each.button.classList.toggle(
            "ablated",
            holds.some((x) => x.kind === "ablate" && x.on),
          );
          each.mark.replaceChildren(
            ...holds.map((x) => ihv.lock({}, !x.on)),
            ...holds
              .filter((x) => x.pulse)
              .slice(0, 1)
              .map((x) => ihv.el("small", { text: pulseWords(x) })),
          );
          const words = holds.map(
            (x) => `${x.on ? "held" : "not held now"}: ${x.words} ${pulseWords(x)}`,
          );
          const title = [`head ${each.l}.${each.h}`, ...words].join("; ");
          each.button.title = title;
          each.button.setAttribute("aria-label", title);
        }
        paint(matrix, pane, L, H);
        const q = ihv.queryOf(pane);
        let most = 0;
        tokens.forEach((token, k) => {
          const a = ihv.attention(pane, L, H, q, k);
          if (a > ihv.attention(pane, L, H, q, most)) most = k;
          token.node.style.setProperty("--a", k > q ? 0 : a.toFixed(3));
          token.node.dataset.a = k > q ? "" : a;
          token.node.classList.toggle("now", k === q);
          token.node.classList.toggle("later", k > q);
          token.node.setAttribute("aria-pressed", String(k === q));
          token.share.textContent = k > q ? "" : ihv.percent(a);
        });
        const share = ihv.percent(ihv.attention(pane, L, H, q, most));
        const who = tokens[q]?.query ? "the query" : `token ${q + 1}`;
        told.textContent = `Head ${L}.${H}: ${who} attends ${share} to token ${most + 1} (${tokens[most]?.text})`;
        matrix.setAttribute("aria-label", told.textContent);
      },
      sequence() {
        if (!pane.data.pattern) return;
        sequences();
        stripOf();
        largeOf();
        this.time();
      },
    };
  };
})();
