// The page of a pretrained network's heads: a map of each score, and a table of all heads.
(() => {
  const { ihv } = globalThis;
  const { about } = ihv;
  const { scores } = about;
  const [L, H] = [about.kinds.length, about.kinds[0].length];
  const strongest = () => {
    const { values } = scores[0];
    let best = [0, 0];
    for (let l = 0; l < L; l++) {
      for (let h = 0; h < H; h++) {
        if ((values[l][h] ?? -9) > (values[best[0]][best[1]] ?? -9)) best = [l, h];
      }
    }
    return best.join(".");
  };
  const state = { head: strongest(), score: scores[0].key, sort: "", up: 0 };

  function readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    const [l, h] = (given.get("head") ?? "").split(".").map(Number);
    if (l >= 0 && l < L && h >= 0 && h < H) state.head = `${l}.${h}`;
    if (scores.some((each) => each.key === given.get("score"))) state.score = given.get("score");
  }

  function set(changes) {
    Object.assign(state, changes);
    try {
      history.replaceState(
        null,
        "",
        `#${new URLSearchParams({ head: state.head, score: state.score })}`,
      );
    } catch {
      // A frame of a notebook has no address of its own.
    }
    ihv.keepFocus(show);
  }

  const score = () => scores.find((each) => each.key === state.score);
  const number = (x) => (x === null ? Number.NaN : x);

  // --- the map -----------------------------------------------------------------------------------

  const choose = ihv.el("span", { class: "tools" });
  const mapCard = ihv.card("scores", "Heads", [choose]);
  const map = ihv.el("div", {
    class: H > 16 ? "map tall dense" : "map tall",
    role: "group",
    "aria-label": "heads by layer",
  });
  const words = ihv.el("p", { class: "quiet small" });
  mapCard.body.append(map, words);
  map.style.setProperty("--columns", H);
  map.dataset.follow = "1";
  ihv.roving(map, () => H);
  const cells = [];
  for (let l = L - 1; l >= 0; l--) {
    map.append(ihv.el("span", { class: "row-name", text: `layer ${l}` }));
    for (let h = 0; h < H; h++) {
      const node = ihv.el("button", {
        type: "button",
        onclick: () => set({ head: `${l}.${h}` }),
      });
      map.append(node);
      cells.push({ l, h, node });
    }
  }
  map.append(ihv.el("span", { class: "row-name", text: "head" }));
  for (let h = 0; h < H; h++) map.append(ihv.el("span", { class: "column-name", text: String(h) }));

  // --- the head that is looked at ----------------------------------------------------------------

  const own = ihv.card("own", "Head");
  const facts = ihv.el("div", { class: "answers" });
  const kind = ihv.el("p", { class: "quiet" });
  own.body.append(kind, facts);

  // --- the table ---------------------------------------------------------------------------------

  const filter = ihv.el("input", {
    type: "search",
    placeholder: "filter heads",
    "aria-label": "filter heads by words, such as induction or 5.",
    oninput: () => show(),
  });
  const tableCard = ihv.card("runs", "All heads", [filter]);
  const table = ihv.el("table", {});
  const count = ihv.el("p", { class: "quiet small", "aria-live": "polite" });
  tableCard.body.append(ihv.el("div", { class: "scroll tall" }, table), count);
  const every = [];
  for (let l = 0; l < L; l++) for (let h = 0; h < H; h++) every.push([l, h]);
  const columns = [
    { key: "head", get: ([l, h]) => l * H + h, show: ([l, h]) => `${l}.${h}` },
    ...scores.map((each) => ({
      key: each.name,
      get: ([l, h]) => number(each.values[l][h]),
      show: ([l, h]) => ihv.fixed(number(each.values[l][h])),
      title: each.about,
    })),
    { key: "kind", get: ([l, h]) => about.kinds[l][h], show: ([l, h]) => about.kinds[l][h] },
  ];
  state.sort = columns[1].key;

  function rows() {
    const wanted = filter.value
      .toLowerCase()
      .split(/[\s,]+/)
      .filter(Boolean);
    const kept = every.filter((at) => {
      const text = columns
        .map((c) => c.show(at))
        .join(" ")
        .toLowerCase();
      return wanted.every((word) => text.includes(word));
    });
    const by = columns.find((c) => c.key === state.sort);
    kept.sort((a, b) => {
      const [x, y] = [by.get(a), by.get(b)];
      const order = typeof x === "number" ? (x || 0) - (y || 0) : String(x).localeCompare(y);
      return (state.up ? order : -order) || a[0] - b[0] || a[1] - b[1];
    });
    const head = ihv.el(
      "tr",
      {},
      columns.map((c) =>
        ihv.el(
          "th",
          {
            scope: "col",
            "aria-sort": state.sort === c.key ? (state.up ? "ascending" : "descending") : "none",
          },
          ihv.el("button", {
            type: "button",
            title: c.title ?? `sort by ${c.key}`,
            text: c.key,
            onclick: () => set({ sort: c.key, up: Number(state.sort === c.key && !state.up) }),
          }),
        ),
      ),
    );
    const body = kept.map((at) => {
      const name = at.join(".");
      const pick = ihv.el("button", {
        type: "button",
        class: "pick",
        "aria-label": `choose head ${name}`,
        text: name,
      });
      const node = ihv.el(
        "tr",
        { class: name === state.head ? "chosen" : "", onclick: () => set({ head: name }) },
        ihv.el("td", {}, pick),
        columns.slice(1).map((c) =>
          ihv.el("td", {
            class: typeof c.get(at) === "number" ? "number" : "",
            text: c.show(at),
          }),
        ),
      );
      node.dataset.head = name;
      return node;
    });
    table.replaceChildren(ihv.el("thead", {}, head), ihv.el("tbody", {}, body));
    count.textContent =
      kept.length === every.length
        ? `${kept.length} heads`
        : `${kept.length} of ${every.length} heads`;
  }

  function show() {
    const now = score();
    const [l, h] = state.head.split(".").map(Number);
    choose.replaceChildren(
      ihv.select(
        "score",
        scores.map((each) => [each.key, each.name]),
        state.score,
        (key) => set({ score: key }),
      ),
    );
    for (const cell of cells) {
      const x = number(now.values[cell.l][cell.h]);
      cell.node.dataset.value = x;
      cell.node.textContent = H > 16 ? "" : ihv.fixed(x).replace("0.", ".");
      cell.node.style.background = ihv.shade(x, now.low, now.high);
      cell.node.classList.toggle("strong", Math.abs(x) > 0.55 * (x < 0 ? -now.low : now.high));
      cell.node.setAttribute("aria-pressed", String(cell.l === l && cell.h === h));
      const name = `head ${cell.l}.${cell.h}, ${now.name} ${ihv.fixed(x)}`;
      cell.node.title = name;
      cell.node.setAttribute("aria-label", name);
    }
    words.textContent = `${now.name} (${now.unit}): ${now.about}; on ${now.probe}.`;
    own.heading.textContent = `Head ${state.head}`;
    kind.textContent = about.kinds[l][h] ? `${about.kinds[l][h]} head` : "of no kind";
    facts.replaceChildren(
      ...scores.map((each) => {
        const x = number(each.values[l][h]);
        const share = (50 * Math.abs(x || 0)) / Math.max(Math.abs(each.low), each.high, 1e-9);
        const side = x < 0 ? "right" : "left";
        const colour = ihv.colour(x < 0 ? 3 : 1);
        return ihv.el(
          "div",
          { class: "bar wide" },
          ihv.el("span", { text: each.name }),
          ihv.el(
            "em",
            {},
            ihv.el("i", { style: `${side}:50%;width:${share.toFixed(2)}%;background:${colour}` }),
          ),
          ihv.el("b", { text: ihv.fixed(x) }),
        );
      }),
    );
    rows();
  }

  function dark() {
    const root = document.documentElement;
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    root.dataset.theme = (root.dataset.theme ?? system) === "dark" ? "light" : "dark";
    show();
  }

  const theme = ihv.el("button", {
    type: "button",
    class: "icon",
    title: "light or dark (t)",
    "aria-label": "light or dark",
    text: "◐",
    onclick: dark,
  });
  const top = ihv.el(
    "header",
    { class: "top" },
    ihv.el("h1", { text: about.title }),
    ihv.el("p", { class: "headline", text: about.said.join(" ") }),
    ihv.el("span", { class: "icons" }, theme),
  );
  const notes = ihv.el("p", {
    class: "quiet small",
    text: `${about.architecture}, ${L} layers of ${H} heads, from ${about.model}. Heads are layer.head, from 0. Scores as in Olsson et al. 2022; a head is called by one that is ${about.enough} or more. Written by ih-jax view.`,
  });
  const main = ihv.el(
    "main",
    { class: "of-heads" },
    ihv.el("div", { class: "side" }, own.node, tableCard.node, notes),
    ihv.el("div", { class: "panes" }, mapCard.node),
  );
  document.addEventListener("keydown", (event) => {
    if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "t") dark();
    if (event.key === "/") {
      event.preventDefault();
      filter.focus();
    }
  });
  window.addEventListener("hashchange", () => {
    readAddress();
    show();
  });
  document.getElementById("app").append(top, main);
  readAddress();
  show();
  document.documentElement.dataset.ready = "1";
})();
