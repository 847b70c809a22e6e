"use strict";
// Numbers and elements for people. Texts go in as text nodes only, so nothing in a plan is markup.

const Format = (() => {
  const scaled = (value, base, units) => {
    let size = Number(value);
    let unit = 0;
    while (Math.abs(size) >= base && unit < units.length - 1) {
      size /= base;
      unit += 1;
    }
    return `${Number(size.toPrecision(4))} ${units[unit]}`.trim();
  };
  const bytes = (value) => scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
  const count = (value) => scaled(value, 1000, ["", "k", "M", "G", "T", "P"]);
  const share = (value) => `${Number((value * 100).toPrecision(3))} %`;
  const seconds = (value) => {
    for (const [factor, unit] of [[1, "s"], [1e3, "ms"], [1e6, "µs"]]) {
      if (Math.abs(value) * factor >= 1) return `${Number((value * factor).toPrecision(3))} ${unit}`;
    }
    return value ? `${Number((value * 1e9).toPrecision(3))} ns` : "0 s";
  };
  const plural = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
  const cut = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

  // "float32[1, 3]" -> 12; null where a size is not known.
  const sizes = { bool: 1, uint8: 1, int8: 1, int16: 2, int32: 4, int64: 8, float16: 2, bfloat16: 2, float32: 4, float64: 8 };
  const typeBytes = (type) => {
    const found = /^(\w+)\[(.*)\]$/.exec(type);
    if (!found || !(found[1] in sizes) || found[2].includes("?")) return null;
    return found[2].split(",").reduce((product, part) => product * (part.trim() ? Number(part) : 1), sizes[found[1]]);
  };
  return { bytes, count, share, seconds, plural, cut, typeBytes };
})();

// element("p", {class: "quiet"}, "text", otherElement)
function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function shape(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}
