// Elements and short texts. Words from a program are only ever set as text, never as HTML.

const $ = (id) => document.getElementById(id);

/** An element with properties, `data-` and `aria-` attributes, listeners (`on…`) and children. */
function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && !name.includes("-")) made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** An SVG element with attributes. */
function svgEl(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function threeDigits(number) {
  if (number >= 99.95 || Number.isInteger(number)) return Math.round(number).toLocaleString("en");
  return number.toFixed(number >= 9.995 ? 1 : 2);
}

function scaled(value, units) {
  if (!value) return `0 ${units.at(-1)[1]}`.trim();
  const [size, unit] = units.find(([size]) => value >= size * 0.9995) ?? units.at(-1);
  return `${threeDigits(value / size)} ${unit}`.trim();
}

const bytesText = (n) => scaled(n, [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]]);
const secondsText = (s) => scaled(s, [[1, "s"], [1e-3, "ms"], [1e-6, "µs"]]);
const amountText = (n) => scaled(n, [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]]);
const percentText = (share) => `${(100 * share).toFixed(share >= 0.0995 ? 0 : 1)} %`;
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

/** A colour for light pages and its twin for dark ones: of the same hue, its lightness turned. */
const twins = new Map();
function bothColours(hex) {
  if (!twins.has(hex)) twins.set(hex, `light-dark(${hex},${darkTwin(hex)})`);
  return twins.get(hex);
}

/** The pair for a bar: stronger than that for a box, which has words on it and a border. */
function barColours(hex) {
  const [lightness, a, b] = oklab(hex);
  const lab = (l, chroma) => `oklab(${l.toFixed(3)} ${(a * chroma).toFixed(4)} ${(b * chroma).toFixed(4)})`;
  return `light-dark(${lab(lightness - 0.06, 1.5)},${lab(0.46, 1.3)})`;
}

function darkTwin(hex) {
  const [lightness, a, b] = oklab(hex);
  // Pale fills become dark and greyer ones; lines and words in a strong colour become lighter.
  const isFill = lightness > 0.7;
  const turned = 1.14 - 0.9 * lightness;
  const [x, y] = [a, b].map((c) => (c * (isFill ? 0.8 : 1)).toFixed(4));
  return `oklab(${(isFill ? turned : Math.min(Math.max(turned, 0.7), 0.92)).toFixed(3)} ${x} ${y})`;
}

/** After Björn Ottosson, "A perceptual color space for image processing" (2020). */
function oklab(hex) {
  const linear = [1, 3, 5].map((i) => {
    const c = parseInt(hex.slice(i, i + 2), 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  const [l, m, s] = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
  ].map((row) => Math.cbrt(row[0] * linear[0] + row[1] * linear[1] + row[2] * linear[2]));
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}
