// Undoes packing.py: base64, deflate, differences along the first axis, whole numbers to values.
(() => {
  globalThis.ihv ??= {};
  const { ihv } = globalThis;
  ihv.about = JSON.parse(document.getElementById("about").textContent);
  const waiting = new Map();

  /** An array of a blob; `get(i, j, ...)` is a value, NaN where there is none. */
  class Values {
    constructor(codes, about) {
      this.codes = codes;
      this.shape = about.shape;
      this.low = about.low;
      this.step = about.step;
      this.missing = about.index ? -1 : 2 ** (8 * about.bytes) - 1;
      this.strides = about.shape.map((_, i) => about.shape.slice(i + 1).reduce((a, b) => a * b, 1));
    }
    offset(...place) {
      let at = 0;
      for (let i = 0; i < place.length; i++) at += place[i] * this.strides[i];
      return at;
    }
    flat(at) {
      const code = this.codes[at];
      return code === this.missing ? Number.NaN : this.low + code * this.step;
    }
    get(...place) {
      return this.flat(this.offset(...place));
    }
  }

  function codesOf(raw, about) {
    const count = about.shape.reduce((a, b) => a * b, 1);
    const codes =
      about.bytes === 1 ? raw.slice(about.at, about.at + count) : new Uint16Array(count);
    if (about.bytes === 2) {
      for (let i = 0; i < count; i++) {
        codes[i] = (raw[about.at + i] << 8) | raw[about.at + count + i];
      }
    }
    const row = about.shape.slice(1).reduce((a, b) => a * b, 1);
    if (about.shape.length) for (let i = row; i < count; i++) codes[i] += codes[i - row];
    return codes;
  }

  async function load(name) {
    const text = document.querySelector(`script[data-blob="${name}"]`).textContent;
    const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const raw = new Uint8Array(await new Response(stream).arrayBuffer());
    const found = {};
    for (const [key, about] of Object.entries(ihv.about.blobs[name].arrays)) {
      found[key] = new Values(codesOf(raw, about), about);
    }
    return found;
  }

  /** The arrays of a blob by name; {} where there is no such blob. */
  ihv.blob = (name) => {
    if (!(name in ihv.about.blobs)) return Promise.resolve({});
    if (!waiting.has(name)) {
      if (waiting.size > 40) waiting.delete(waiting.keys().next().value);
      waiting.set(name, load(name));
    }
    return waiting.get(name);
  };
})();
