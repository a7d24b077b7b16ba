// All runs: their learning curves, and a table of what was found in each.
(() => {
  const { ihv } = globalThis;

  ihv.views.curves = () => {
    const tools = ihv.el("span", { class: "tools" });
    const card = ihv.card("curves", "Learning curves", [tools]);
    const host = ihv.el("div", { class: "plot" });
    const legend = ihv.el("div", { class: "legend" });
    card.body.append(host, legend);
    let data = {};

    const metric = () =>
      ihv.sweep().metrics.includes(ihv.state.metric) ? ihv.state.metric : ihv.sweep().metrics[0];
    const set = () => (ihv.sweep().sets.includes(ihv.state.set) ? ihv.state.set : "");

    function values(place) {
      const sweep = ihv.sweep();
      const which = sweep.sets.indexOf(set());
      const own = data[set() ? `eval_${metric()}` : metric()];
      const x = set() ? sweep.seen_sets : sweep.seen;
      const y = x.map((_, i) => {
        const at = set() ? own.get(i, which, place) : own.get(i, place);
        return Number.isNaN(at) || (ihv.state.log && at <= 0) ? null : at;
      });
      return { x, y };
    }

    const chart = ihv.lines(
      host,
      () => {
        const sweep = ihv.sweep();
        const { state } = ihv;
        const many = sweep.runs.length > 24;
        const places = sweep.runs
          .map((_, i) => i)
          .filter((i) => i !== state.run && i !== state.with);
        const series = [...places, ...(state.with >= 0 ? [state.with] : []), state.run].map(
          (i) => ({
            y: values(i).y,
            colour: ihv.runColour(sweep.runs[i]),
            width: i === state.run ? 3 : i === state.with ? 2.4 : 1,
            dash: i === state.with ? [6, 4] : undefined,
            alpha: i === state.run || i === state.with ? 1 : many ? 0.3 : 0.45,
            run: i,
          }),
        );
        return {
          x: values(0).x,
          series,
          xLabel: `${sweep.over} seen`,
          label: unit(),
          log: state.log && metric() === "loss",
          ...marks(),
        };
      },
      (seen, series) => {
        const step = Math.round(seen / ihv.sweep().unit);
        ihv.set(series ? { run: series.run, step } : { step });
      },
    );

    const unit = () => {
      const of = ihv.sweep().units[metric()];
      return `${metric().replaceAll("_", " ")}${of ? ` (${of})` : ""}`;
    };

    function marks() {
      const sweep = ihv.sweep();
      const run = ihv.runAt(ihv.state.run);
      const { x, y } = values(ihv.state.run);
      const known = x.map((_, i) => i).filter((i) => y[i] !== null);
      const heightAt = (seen) =>
        y[
          known.reduce((a, i) => (Math.abs(x[i] - seen) < Math.abs(x[a] - seen) ? i : a), known[0])
        ];
      const colour = ihv.runColour(run);
      const found = [];
      const bands = [];
      const { plateau, time, censored, window } = run.found;
      if (known.length && plateau)
        found.push({ x: plateau, y: heightAt(plateau), colour, shape: "diamond" });
      if (known.length && time && !censored && !window)
        found.push({
          x: time,
          y: metric() === "loss" && !set() ? sweep.learned : heightAt(time),
          colour,
          shape: "circle",
        });
      if (plateau && time && !censored) bands.push({ from: plateau, to: time });
      if (window) bands.push({ from: window[0], to: window[1] });
      return { marks: found, bands };
    }

    function legends() {
      const sweep = ihv.sweep();
      const run = ihv.runAt(ihv.state.run);
      const seen = new Map();
      for (const each of sweep.runs) {
        const axis =
          Object.keys(sweep.axes)
            .filter((a) => sweep.axes[a].length > 1)
            .find((a) => a !== "init") ?? "run";
        const label =
          axis === "run"
            ? "all runs"
            : axis === "clamp"
              ? String(each.names.clamp)
              : `${axis} ${each.names[axis]}`;
        if (!seen.has(label)) seen.set(label, ihv.runColour(each));
      }
      legend.replaceChildren(
        ...[...seen]
          .slice(0, 14)
          .map(([label, colour]) =>
            ihv.el("span", { class: "key" }, ihv.el("i", { style: `background:${colour}` }), label),
          ),
      );
      const { plateau, time, censored, window } = run.found;
      const said = [];
      if (window)
        said.push(`shaded: phase change, ${ihv.short(window[0])} to ${ihv.short(window[1])}`);
      if (plateau) said.push(`◇ slowest on the plateau, ${ihv.short(plateau)}`);
      if (time && !window && !censored)
        said.push(`● loss below ${ihv.fixed(sweep.learned, 3)}, ${ihv.short(time)}`);
      if (plateau && time && !censored) said.push("shaded: phase change");
      if (said.length) legend.append(ihv.el("span", { class: "key quiet", text: said.join("; ") }));
    }

    return {
      node: card.node,
      async rebuild() {
        data = await ihv.blob(`${ihv.state.sweep}/curves`);
        ihv.keepFocus(() => this.draw());
      },
      draw() {
        const sweep = ihv.sweep();
        const log = ihv.el(
          "label",
          { class: "check" },
          ihv.el("input", {
            type: "checkbox",
            onchange: (event) => ihv.set({ log: Number(event.target.checked) }),
          }),
          "log",
        );
        log.firstChild.checked = Boolean(ihv.state.log);
        tools.replaceChildren(
          ihv.select(
            "metric",
            sweep.metrics.map((m) => [m, m.replaceAll("_", " ")]),
            metric(),
            (m) => ihv.set({ metric: m }),
          ),
          ihv.select(
            "evaluation set",
            [["", "training set, often"], ...sweep.sets.map((s) => [s, s])],
            set(),
            (s) => ihv.set({ set: s }),
          ),
          metric() === "loss" ? log : "",
        );
        legends();
        chart.draw();
        chart.time(ihv.seen());
      },
      time: () => chart.time(ihv.seen()),
    };
  };

  // --- the table -------------------------------------------------------------------------------

  function columns(sweep) {
    const axes = Object.keys(sweep.axes).filter((axis) => sweep.axes[axis].length > 1);
    const metrics = sweep.metrics.filter(
      (m) => m === "loss" || m.endsWith("accuracy") || m.endsWith("score"),
    );
    const heads = (run) => run.found.heads?.length ?? null;
    const time = sweep.kind === "language" ? "phase change" : "time to learn";
    return [
      { key: "run", get: (run) => run.id, title: "number of the run" },
      ...axes.map((axis) => ({ key: axis, get: (run) => run.names[axis] })),
      ...(sweep.kind === "other"
        ? []
        : [
            {
              key: time,
              get: (run) =>
                run.found.censored ? Number.POSITIVE_INFINITY : (run.found.time ?? null),
              show: (run) =>
                run.found.censored ? `> ${ihv.short(run.found.time)}` : ihv.short(run.found.time),
              title:
                sweep.kind === "language"
                  ? `${sweep.over} seen in the middle of the phase change`
                  : `${sweep.over} seen when the loss first falls below ${ihv.fixed(sweep.learned, 3)}`,
            },
            {
              key: "induction heads",
              get: heads,
              title: `heads whose ${sweep.scores[0].name} is ${sweep.threshold} or more at the last checkpoint`,
            },
            {
              key: "strongest",
              get: (run) => run.found.strength ?? null,
              show: (run) =>
                run.found.strongest
                  ? `${run.found.strongest.join(".")} (${ihv.fixed(run.found.strength)})`
                  : "–",
              title: `the head with the highest ${sweep.scores[0].name} at the last checkpoint`,
            },
            {
              key: "formed",
              get: (run) => run.found.formed ?? null,
              show: (run) => ihv.short(run.found.formed),
              title: `${sweep.over} seen at the first checkpoint at which that head reaches ${sweep.threshold}`,
            },
          ]),
      ...metrics.map((m) => ({
        key: m.replaceAll("_", " "),
        get: (run) => run.found[m],
        show: (run) => ihv.fixed(run.found[m], 3),
        title: "at the end, on the training set",
      })),
    ];
  }

  ihv.views.runs = () => {
    const filter = ihv.el("input", {
      type: "search",
      placeholder: "filter runs",
      "aria-label": "filter runs by words, or by a column such as time < 100k",
      oninput: () => fill(),
    });
    const card = ihv.card("runs", "Runs", [filter]);
    const table = ihv.el("table", {});
    const count = ihv.el("p", { class: "quiet small", "aria-live": "polite" });
    card.body.append(ihv.el("div", { class: "scroll" }, table), count);
    let sort = { key: "run", up: true };
    let rows = [];

    const amount = (text) => Number.parseFloat(text) * ({ k: 1e3, M: 1e6 }[text.at(-1)] ?? 1);

    /** Words must all occur; "column < number" compares. */
    function test(every) {
      const conditions = [];
      const words = filter.value
        .replace(/([a-z ]+?)\s*([<>=])\s*([\d.]+[kM]?)/gi, (_, name, sign, value) => {
          conditions.push({
            name: name.trim().split(" ").at(-1).toLowerCase(),
            sign,
            value: amount(value),
          });
          return " ";
        })
        .toLowerCase()
        .split(/[\s,]+/)
        .filter(Boolean);
      return (run) => {
        const text = every
          .map((c) => String((c.show ?? c.get)(run)))
          .join(" ")
          .toLowerCase();
        return (
          words.every((w) => text.includes(w)) &&
          conditions.every(({ name, sign, value }) => {
            const column = every.find((c) => c.key.toLowerCase().split(" ").includes(name));
            const x = column ? column.get(run) : null;
            if (typeof x !== "number") return false;
            return sign === "<" ? x < value : sign === ">" ? x > value : x === value;
          })
        );
      };
    }

    function fill() {
      const sweep = ihv.sweep();
      const every = columns(sweep);
      const by = every.find((c) => c.key === sort.key) ?? every[0];
      const kept = sweep.runs.map((run, i) => ({ run, i })).filter(({ run }) => test(every)(run));
      kept.sort((a, b) => {
        const [x, y] = [by.get(a.run), by.get(b.run)];
        if (x === null || y === null) return (x === null) - (y === null);
        const order =
          typeof x === "number" && typeof y === "number"
            ? x - y
            : String(x).localeCompare(String(y));
        return (sort.up ? order : -order) || a.i - b.i;
      });
      const head = ihv.el(
        "tr",
        {},
        every.map((c) =>
          ihv.el(
            "th",
            {
              scope: "col",
              "aria-sort": sort.key === c.key ? (sort.up ? "ascending" : "descending") : "none",
            },
            ihv.el("button", {
              type: "button",
              title: c.title ?? `sort by ${c.key}`,
              text: c.key,
              onclick: () => {
                sort = { key: c.key, up: sort.key === c.key ? !sort.up : true };
                ihv.keepFocus(fill);
              },
            }),
          ),
        ),
        ihv.el("th", { scope: "col", text: "beside" }),
      );
      rows = kept.map(({ run, i }) => {
        const first = ihv.el(
          "button",
          {
            type: "button",
            class: "pick",
            "aria-label": `choose run ${run.id}: ${ihv.runName(run)}`,
            onclick: () => ihv.set({ run: i }),
          },
          ihv.el("i", { style: `background:${ihv.runColour(run)}` }),
          String(run.id),
        );
        const beside = ihv.el("button", {
          type: "button",
          class: "beside",
          title: `show run ${run.id} beside`,
          "aria-label": `show run ${run.id} beside the chosen one`,
          text: "⇄",
          onclick: (event) => {
            event.stopPropagation();
            ihv.set({ with: ihv.state.with === i ? -1 : i });
          },
        });
        const cells = every.slice(1).map((c) => {
          const shown = c.show ? c.show(run) : c.get(run);
          const number = typeof c.get(run) === "number";
          return ihv.el("td", {
            class: number ? "number" : "",
            text: shown === null || shown === undefined ? "–" : String(shown),
          });
        });
        const node = ihv.el(
          "tr",
          { onclick: () => ihv.set({ run: i }) },
          ihv.el("td", {}, first),
          cells,
          ihv.el("td", {}, beside),
        );
        node.dataset.run = run.id;
        return { node, i, beside };
      });
      table.replaceChildren(
        ihv.el("thead", {}, head),
        ihv.el(
          "tbody",
          {},
          rows.map((r) => r.node),
        ),
      );
      count.textContent =
        kept.length === sweep.runs.length
          ? `${kept.length} runs`
          : `${kept.length} of ${sweep.runs.length} runs`;
      mark();
    }

    function mark() {
      for (const { node, i, beside } of rows) {
        node.classList.toggle("chosen", i === ihv.state.run);
        node.classList.toggle("other", i === ihv.state.with);
        beside.setAttribute("aria-pressed", String(i === ihv.state.with));
        beside.hidden = i === ihv.state.run;
      }
    }

    return { node: card.node, rebuild: fill, mark, focus: () => filter.focus() };
  };
})();
