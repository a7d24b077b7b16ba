// Lines over training, by uPlot, with a time line that moves without drawing anything anew.
(() => {
  const { ihv } = globalThis;

  /**
   * A chart in `host`. `describe()` gives {x, series: [{y, colour, width, dash, alpha}], label,
   * unit, range, log, marks: [{x, y, colour, shape, title}], bands: [{from, to}]}.
   */
  ihv.lines = (host, describe, chosen) => {
    const frame = ihv.el("div", { class: "chart", role: "img" });
    const line = ihv.el("div", { class: "time-line", "aria-hidden": "true" });
    host.append(frame);
    let plot = null;
    let made = null;
    let now = 0;
    let asked = false; // before that there is nothing to draw

    function draw() {
      asked = true;
      const width = Math.floor(frame.clientWidth);
      const height = Math.floor(frame.clientHeight);
      if (width < 40 || height < 40) return;
      made = describe();
      frame.setAttribute("aria-label", alt());
      plot?.destroy();
      plot = new uPlot(options(width, height), [made.x, ...made.series.map((s) => s.y)], frame);
      plot.over.append(line);
      plot.over.addEventListener("click", (event) => pick(event));
    }

    /** The chart in words: what it is of, and where its boldest line begins and ends. */
    function alt() {
      const bold = made.series.reduce((a, s) => ((s.width ?? 1) >= (a?.width ?? 1) ? s : a), null);
      const known = (bold?.y ?? []).filter((y) => y !== null);
      const way = known.length
        ? `; the bold one goes from ${ihv.fixed(known[0], 3)} to ${ihv.fixed(known.at(-1), 3)}`
        : "";
      return `${made.label} by ${made.xLabel}, ${made.series.length} lines${way}`;
    }

    function options(width, height) {
      const quiet = ihv.ink("quiet");
      const axis = {
        stroke: quiet,
        font: "11px system-ui, sans-serif",
        labelFont: "11px system-ui, sans-serif",
        grid: { stroke: ihv.ink("grid"), width: 1 },
        ticks: { stroke: ihv.ink("grid"), width: 1, size: 4 },
        gap: 4,
      };
      const tick = (x) =>
        made.log && x ? String(Number(x.toPrecision(2))) : String(Number(x.toFixed(3)));
      return {
        width,
        height,
        padding: [8, 22, 0, 0],
        legend: { show: false },
        cursor: {
          show: true,
          x: false,
          y: false,
          points: { show: false },
          drag: { x: false, y: false },
        },
        scales: {
          x: { time: false },
          y: made.log
            ? { distr: 3 }
            : { range: made.range ?? ((_, low, high) => padded(low, high)) },
        },
        axes: [
          {
            ...axis,
            size: 34,
            label: made.xLabel,
            labelSize: 16,
            values: (_, ticks) => ticks.map(ihv.short),
          },
          {
            ...axis,
            size: 42,
            label: made.label,
            labelSize: 16,
            values: (_, ticks) => ticks.map((x) => (x === null ? "" : tick(x))),
          },
        ],
        series: [
          {},
          ...made.series.map((s) => ({
            stroke: s.colour,
            width: s.width ?? 1,
            dash: s.dash,
            alpha: s.alpha ?? 1,
            points: { show: s.y.filter((y) => y !== null).length === 1 },
            spanGaps: true,
          })),
        ],
        hooks: { drawClear: [bands], draw: [marks], ready: [place] },
      };
    }

    const padded = (low, high) => {
      if (low === null) return [0, 1];
      const more = (high - low || Math.abs(high) || 1) * 0.06;
      return [low >= 0 && low < high / 3 ? 0 : low - more, high + more];
    };

    function bands(u) {
      for (const band of made.bands ?? []) {
        const left = u.valToPos(band.from, "x", true);
        const right = u.valToPos(band.to, "x", true);
        u.ctx.fillStyle = ihv.ink("band");
        u.ctx.fillRect(left, u.bbox.top, Math.max(2, right - left), u.bbox.height);
      }
    }

    function marks(u) {
      const size = 5 * devicePixelRatio;
      for (const mark of made.marks ?? []) {
        const x = u.valToPos(mark.x, "x", true);
        const y = u.valToPos(mark.y, "y", true);
        if (!Number.isFinite(x + y)) continue;
        u.ctx.beginPath();
        if (mark.shape === "circle") u.ctx.arc(x, y, size * 0.8, 0, 7);
        else {
          u.ctx.moveTo(x, y - size);
          u.ctx.lineTo(x + size, y);
          u.ctx.lineTo(x, y + size);
          u.ctx.lineTo(x - size, y);
          u.ctx.closePath();
        }
        u.ctx.fillStyle = mark.shape === "circle" ? mark.colour : ihv.ink("paper");
        u.ctx.strokeStyle = mark.colour;
        u.ctx.lineWidth = 1.6 * devicePixelRatio;
        u.ctx.fill();
        u.ctx.stroke();
      }
    }

    function pick(event) {
      const box = plot.over.getBoundingClientRect();
      const x = plot.posToVal(event.clientX - box.left, "x");
      const at = plot.posToIdx(event.clientX - box.left);
      let best = -1;
      let least = 24;
      made.series.forEach((s, i) => {
        // A curve may have no value just here: take the nearest that it has.
        let y = null;
        for (let d = 0; d < 6 && y === null; d++) y = s.y[at - d] ?? s.y[at + d] ?? null;
        if (y === null) return;
        const away = Math.abs(plot.valToPos(y, "y") - (event.clientY - box.top));
        if (away < least) [best, least] = [i, away];
      });
      chosen?.(x, best < 0 ? null : made.series[best]);
    }

    function place() {
      if (!plot) return;
      const x = Math.round(plot.valToPos(now, "x"));
      line.style.transform = `translateX(${x}px)`;
      line.hidden = !(x >= -1 && x <= plot.over.clientWidth + 1);
    }

    new ResizeObserver(() => asked && draw()).observe(frame);
    return {
      draw,
      time(seen) {
        now = seen;
        place();
      },
    };
  };
})();
