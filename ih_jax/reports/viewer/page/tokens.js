// Tokens as what they are: drawings of exemplars, coloured letters, text.
(() => {
  const { ihv } = globalThis;

  /** The tokens of a run's sequence: [{kind, text, url, label}]. */
  ihv.tokensOf = (sweep, run, place) => {
    const given = sweep.sequences[run.sequences];
    if (!given) return [];
    if (sweep.kind === "language") {
      return given.tokens[place].map((id) => ({ kind: "text", text: sweep.vocabulary[id], id }));
    }
    if (sweep.kind === "fewshot" && given.labels) {
      const found = [];
      given.labels[place].forEach((label, i) => {
        const row = given.rows[place][i];
        const url = sweep.tiles.of[`${given.table}:${row}`];
        const last = i === given.labels[place].length - 1;
        found.push({
          kind: "exemplar",
          url,
          text: `class ${given.classes[place][i]}`,
          swatch: sweep.tiles.what === "swatches",
          query: last,
        });
        if (!last)
          found.push({ kind: "label", label, text: `label ${sweep.vocabulary[label] ?? label}` });
      });
      return found;
    }
    if (given.names) return given.names[place].map((text) => ({ kind: "text", text }));
    return Array.from({ length: run.length }, (_, i) => ({ kind: "text", text: String(i) }));
  };

  ihv.targetOf = (sweep, run, place) =>
    sweep.sequences[run.sequences]?.labels?.[place].at(-1) ?? null;
  ihv.sequenceCount = (sweep, run) => {
    const given = sweep.sequences[run.sequences];
    return (given?.labels ?? given?.tokens ?? given?.names)?.length ?? (given ? 1 : 0);
  };

  ihv.labelChip = (sweep, label) =>
    ihv.el("span", {
      class: "chip",
      style: `--chip: ${ihv.colour(label % 7)}`,
      text: sweep.vocabulary[label] ?? String(label),
    });

  /** The picture of a token. */
  ihv.tokenFace = (sweep, token) => {
    if (token.kind === "label") return ihv.labelChip(sweep, token.label);
    if (token.kind === "exemplar" && token.url) {
      const mask = `-webkit-mask-image: url("${token.url}"); mask-image: url("${token.url}")`;
      return ihv.el("span", { class: token.swatch ? "tile swatch" : "tile", style: mask });
    }
    if (token.kind === "exemplar") return ihv.el("span", { class: "word", text: token.text });
    const shown = token.text.replaceAll("\n", "⏎").replaceAll(" ", "␣");
    return ihv.el("span", { class: "word", text: shown || "∅" });
  };
})();
