// Numbers, times and names as people read them.

const formats = {
  large: new Intl.NumberFormat("en", { maximumFractionDigits: 1 }),
  usual: new Intl.NumberFormat("en", { maximumFractionDigits: 2 }),
  small: new Intl.NumberFormat("en", { maximumSignificantDigits: 3 }),
  exact: new Intl.NumberFormat("en", { maximumFractionDigits: 6 }),
};
const EXACT = new Set(["latitude", "longitude"]);
const SHOWN = { pressure: ["hPa", 0.01] }; // stored in Pa
const NAMES = {
  pm1_0: "PM1", pm2_5: "PM2.5", pm4_0: "PM4", pm10: "PM10", co2: "CO₂", eco2: "eCO₂", tvoc: "TVOC", etvoc: "eTVOC",
  voc_index: "VOC index", nox_index: "NOx index", uv_index: "UV index", tx_power: "Transmit power", pga: "PGA",
  si_value: "SI value", mass_lb: "Mass",
};

/** A quantity's name in words: battery_voltage → Battery voltage; temperature_2 → Temperature 2. */
export function words(name) {
  if (NAMES[name]) return NAMES[name];
  const text = name.replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
}

/** The unit that a quantity is shown in, and what its stored values are multiplied by. */
export function shown(name, unit) {
  return SHOWN[name] ?? [unit, 1];
}

/** A number with the digits that say something, or with so many of them. */
export function number(value, digits = null) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (digits === null) return formats[size >= 100 ? "large" : size >= 1 ? "usual" : "small"].format(value);
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** A quantity's value with its unit; flags are yes or no. */
export function value(name, found, unit) {
  if (typeof found === "boolean") return found ? "yes" : "no";
  if (typeof found !== "number") return String(found);
  const [shownUnit, factor] = shown(name, unit);
  const text = EXACT.has(name) ? formats.exact.format(found) : number(found * factor);
  return `${text}${shownUnit === "%" || shownUnit === "°" ? "" : " "}${shownUnit}`.trim();
}

/** How long ago, in ms, in few letters. */
export function ago(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 100 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** A length of time in ms: 850 ms, 1.2 s, 3.4 min, 2 h. */
export function lasting(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 120_000) return `${number(ms / 1000, 1)} s`;
  return ms < 7_200_000 ? `${number(ms / 60_000, 1)} min` : `${number(ms / 3_600_000, 1)} h`;
}

const two = (figure) => String(figure).padStart(2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** A time of day, local; seconds where asked for. */
export function clock(seconds, exact = true) {
  const at = new Date(seconds * 1000);
  return `${two(at.getHours())}:${two(at.getMinutes())}${exact ? `:${two(at.getSeconds())}` : ""}`;
}

export function day(seconds) {
  const at = new Date(seconds * 1000);
  return `${at.getDate()} ${MONTHS[at.getMonth()]}`;
}

/** Date and time, local; the year where it is not this one. */
export function moment(ms, exact = true) {
  const at = new Date(ms);
  const year = at.getFullYear() === new Date().getFullYear() ? "" : ` ${at.getFullYear()}`;
  return `${day(ms / 1000)}${year}, ${clock(ms / 1000, exact)}`;
}

/** From one time to another, ms; the day once where it is the same. */
export function period(from, to) {
  const same = new Date(from).toDateString() === new Date(to).toDateString();
  return `${moment(from, false)} to ${same ? clock(to / 1000, false) : moment(to, false)}`;
}

export function dollars(amount) {
  if (amount === null || amount === undefined) return "–";
  return amount >= 1 ? `$${number(amount, 2)}` : `$${Number(amount.toPrecision(2)).toLocaleString("en", { maximumFractionDigits: 9 })}`;
}

/** A price of one of something, of a million where one costs next to nothing. */
export function price(each) {
  const million = each < 0.001;
  const amount = (million ? each * 1e6 : each).toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 3 });
  return `$${amount}${million ? " a million" : ""}`;
}
