// A terminal: the part of ECMA-48 and xterm's own sequences that shells, editors and pagers use. What it does not know it
// passes over, and never shows as text.

const BASE = ['#1b2226', '#e06c66', '#7ec78b', '#e0b96a', '#6aa9e0', '#c58be0', '#5fc4c0', '#d5dbdf',
  '#6d7a82', '#ff8f88', '#a1e5ad', '#ffd98a', '#8fc7ff', '#e0b0ff', '#8ce6e1', '#ffffff'];

function colour(index) {
  if (index < 16) return BASE[index];
  if (index >= 232) { const grey = 8 + (index - 232) * 10; return `rgb(${grey},${grey},${grey})`; }
  const part = (value) => (value === 0 ? 0 : 55 + value * 40);
  index -= 16;
  return `rgb(${part(Math.floor(index / 36))},${part(Math.floor(index / 6) % 6)},${part(index % 6)})`;
}

const PLAIN = Object.freeze({ fg: null, bg: null, bold: false, dim: false, italic: false, underline: false, inverse: false });
const blank = (style = PLAIN) => ({ text: ' ', style: style.bg ? { ...PLAIN, bg: style.bg } : PLAIN });
const WIDE = /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}]/u;

/** The screen: what bytes make of it. It knows nothing of the page, so that it can be tested alone. */
export class Screen {
  constructor(rows = 24, columns = 80, answer = () => {}) {
    Object.assign(this, { rows, columns, answer, decoder: new TextDecoder('utf-8', { fatal: false }) });
    this.reset();
  }

  reset() {
    this.style = PLAIN;
    this.lines = this.empty();
    Object.assign(this, { row: 0, column: 0, top: 0, bottom: this.rows - 1, wrap: false, saved: null, other: null, cursor: true,
      autowrap: true, application: false, bracketed: false, origin: false, insert: false, title: '', pending: '', last: ' ', graphics: false });
  }

  empty() { return Array.from({ length: this.rows }, () => this.blankLine()); }

  blankLine() { return Array.from({ length: this.columns }, () => blank(this.style)); }

  resize(rows, columns) {
    const fit = (lines, keep) => {
      let all = lines.map((line) => {
        const cut = line.slice(0, columns);
        while (cut.length < columns) cut.push(blank());
        return cut;
      });
      // Lines above the cursor go first.
      while (all.length > rows) all = keep && this.row < all.length - 1 ? all.slice(0, -1) : (this.row = Math.max(0, this.row - (keep ? 1 : 0)), all.slice(1));
      while (all.length < rows) all.push(Array.from({ length: columns }, () => blank()));
      return all;
    };
    this.lines = fit(this.lines, true);
    if (this.other) this.other.lines = fit(this.other.lines, false);
    Object.assign(this, { rows, columns, top: 0, bottom: rows - 1, wrap: false });
    this.row = Math.min(this.row, rows - 1);
    this.column = Math.min(this.column, columns - 1);
  }

  write(bytes) {
    let text = this.pending + this.decoder.decode(bytes, { stream: true });
    this.pending = '';
    let at = 0;
    if (this.skipping) {
      const end = /\x07|\x1b\\/.exec(text);
      if (!end) {
        // The escape of its end may be the last that has come.
        this.pending = text.endsWith('\x1b') ? '\x1b' : '';
        return;
      }
      this.skipping = false;
      at = end.index + end[0].length;
    }
    while (at < text.length) {
      const code = text.charCodeAt(at);
      if (code === 0x1b) {
        const used = this.escape(text, at);
        if (used === 0) {
          // The rest has not come yet; one that is too long is left out to its end.
          if (text.length - at < 4096) this.pending = text.slice(at);
          else if (']P_^X'.includes(text[at + 1])) {
            this.skipping = true;
            this.pending = text.endsWith('\x1b') ? '\x1b' : '';
          }
          return;
        }
        at += used;
      } else if (code < 0x20 || code === 0x7f) {
        this.control(code);
        at += 1;
      } else {
        const character = String.fromCodePoint(text.codePointAt(at));
        this.put(character);
        at += character.length;
      }
    }
  }

  control(code) {
    switch (code) {
      case 0x08: this.column = Math.max(0, this.column - 1); this.wrap = false; break;
      case 0x09: this.column = Math.min(this.columns - 1, (Math.floor(this.column / 8) + 1) * 8); break;
      case 0x0a: case 0x0b: case 0x0c: this.feed(); break;
      case 0x0d: this.column = 0; this.wrap = false; break;
      case 0x0e: this.graphics = true; break;
      case 0x0f: this.graphics = false; break;
      default:
    }
  }

  put(character) {
    if (/^[\u0300-\u036f\u200b-\u200f\ufe00-\ufe0f]$/u.test(character)) {
      const before = this.lines[this.row][Math.max(0, this.column - (this.wrap ? 0 : 1))];
      before.text += character;
      return;
    }
    if (this.graphics) character = { j: '┘', k: '┐', l: '┌', m: '└', n: '┼', q: '─', t: '├', u: '┤', v: '┴', w: '┬', x: '│', a: '▒' }[character] ?? character;
    const width = WIDE.test(character) ? 2 : 1;
    if ((this.wrap || this.column + width > this.columns) && this.autowrap) {
      this.column = 0;
      this.feed();
    }
    this.wrap = false;
    const line = this.lines[this.row];
    if (this.insert) line.splice(this.column, 0, ...Array.from({ length: width }, () => blank())), line.length = this.columns;
    line[this.column] = { text: character, style: this.style };
    if (width === 2 && this.column + 1 < this.columns) line[this.column + 1] = { text: '', style: this.style };
    this.last = character;
    if (this.column + width >= this.columns) { this.column = this.columns - 1; this.wrap = true; } else this.column += width;
  }

  feed() {
    this.wrap = false;
    if (this.row === this.bottom) this.scroll(1);
    else if (this.row < this.rows - 1) this.row += 1;
  }

  scroll(count, top = this.top) {
    const lines = this.lines.splice(top, this.bottom - top + 1);
    for (let time = 0; time < Math.min(Math.abs(count), lines.length); time += 1) {
      if (count > 0) { lines.shift(); lines.push(this.blankLine()); } else { lines.pop(); lines.unshift(this.blankLine()); }
    }
    this.lines.splice(top, 0, ...lines);
  }

  /** Reads one sequence; gives how long it is, or 0 when its end has not come yet. */
  escape(text, at) {
    const next = text[at + 1];
    if (next === undefined) return 0;
    if (next === '[') {
      const found = /^([<-?]?)([0-9:;]*)([ -/]*)([@-~])/.exec(text.slice(at + 2, at + 258));
      if (!found) return /^[<-?]?[0-9:;]*[ -/]*$/.test(text.slice(at + 2)) ? 0 : 2;
      this.sequence(found[1], found[2], found[3], found[4]);
      return 2 + found[0].length;
    }
    if (next === ']' || next === 'P' || next === '_' || next === '^' || next === 'X') {
      const end = /\x07|\x1b\\/.exec(text.slice(at + 2));
      if (!end) return 0;
      const body = text.slice(at + 2, at + 2 + end.index);
      if (next === ']' && /^[02];/.test(body)) this.title = body.slice(2, 200);
      return 2 + end.index + end[0].length;
    }
    if ('()*+#%'.includes(next)) {
      if (text[at + 2] === undefined) return 0;
      if (next === '(') this.graphics = text[at + 2] === '0';
      return 3;
    }
    switch (next) {
      case '7': this.save(); break;
      case '8': this.restore(); break;
      case 'D': this.feed(); break;
      case 'E': this.column = 0; this.feed(); break;
      case 'M': if (this.row === this.top) this.scroll(-1); else this.row = Math.max(0, this.row - 1); break;
      case 'c': this.reset(); break;
      default:
    }
    return 2;
  }

  save() { this.saved = { row: this.row, column: this.column, style: this.style }; }

  restore() {
    const { row, column, style } = this.saved ?? { row: 0, column: 0, style: PLAIN };
    Object.assign(this, { row: Math.min(row, this.rows - 1), column: Math.min(column, this.columns - 1), style, wrap: false });
  }

  sequence(mark, text, between, final) {
    const numbers = text.split(';').map((part) => (part === '' ? null : Number.parseInt(part, 10)));
    const first = (usual = 1) => Math.min(Math.max(numbers[0] ?? usual, usual === 0 ? 0 : 1), 9999);
    if (mark === '?' && (final === 'h' || final === 'l')) return numbers.forEach((mode) => this.mode(mode, final === 'h'));
    if (mark || between) return undefined;
    this.wrap = final === 'm' ? this.wrap : false;
    const line = this.lines[this.row];
    switch (final) {
      case 'A': this.row = Math.max(this.row >= this.top ? this.top : 0, this.row - first()); break;
      case 'B': case 'e': this.row = Math.min(this.row <= this.bottom ? this.bottom : this.rows - 1, this.row + first()); break;
      case 'C': case 'a': this.column = Math.min(this.columns - 1, this.column + first()); break;
      case 'D': this.column = Math.max(0, this.column - first()); break;
      case 'E': this.column = 0; this.row = Math.min(this.bottom, this.row + first()); break;
      case 'F': this.column = 0; this.row = Math.max(this.top, this.row - first()); break;
      case 'G': case '`': this.column = Math.min(this.columns, first()) - 1; break;
      case 'd': this.row = Math.min(this.rows, first()) - 1; break;
      case 'H': case 'f':
        this.row = Math.min(this.origin ? this.bottom : this.rows - 1, first() - 1 + (this.origin ? this.top : 0));
        this.column = Math.min(this.columns, Math.max(1, numbers[1] ?? 1)) - 1;
        break;
      case 'J': this.erase(first(0)); break;
      case 'K': {
        const [from, to] = [[this.column, this.columns], [0, this.column + 1], [0, this.columns]][first(0)] ?? [0, 0];
        for (let place = from; place < to; place += 1) line[place] = blank(this.style);
        break;
      }
      case 'L': case 'M':
        if (this.row >= this.top && this.row <= this.bottom) { this.scroll(final === 'M' ? first() : -first(), this.row); this.column = 0; }
        break;
      case 'P': line.splice(this.column, first()); while (line.length < this.columns) line.push(blank(this.style)); break;
      case '@': line.splice(this.column, 0, ...Array.from({ length: Math.min(first(), this.columns) }, () => blank(this.style))); line.length = this.columns; break;
      case 'X': for (let place = this.column; place < Math.min(this.columns, this.column + first()); place += 1) line[place] = blank(this.style); break;
      case 'S': this.scroll(first()); break;
      case 'T': this.scroll(-first()); break;
      case 'b': for (let time = 0; time < Math.min(first(), this.columns * this.rows); time += 1) this.put(this.last); break;
      case 'r': {
        const [top, bottom] = [(numbers[0] ?? 1) - 1, (numbers[1] ?? this.rows) - 1];
        if (top >= 0 && top < bottom && bottom < this.rows) { Object.assign(this, { top, bottom, row: this.origin ? top : 0, column: 0 }); }
        break;
      }
      case 'm': this.look(text); break;
      case 's': this.save(); break;
      case 'u': this.restore(); break;
      case 'h': case 'l': if (numbers[0] === 4) this.insert = final === 'h'; break;
      case 'n': if (numbers[0] === 6) this.answer(`\x1b[${this.row + 1};${this.column + 1}R`); else if (numbers[0] === 5) this.answer('\x1b[0n'); break;
      case 'c': this.answer('\x1b[?6c'); break;
      default:
    }
    return undefined;
  }

  erase(what) {
    const wipe = (row, from, to) => { for (let place = from; place < to; place += 1) this.lines[row][place] = blank(this.style); };
    const from = what === 0 ? this.row : 0;
    const to = what === 1 ? this.row : this.rows - 1;
    for (let row = from; row <= to; row += 1) {
      wipe(row, what === 0 && row === this.row ? this.column : 0, what === 1 && row === this.row ? this.column + 1 : this.columns);
    }
  }

  mode(mode, on) {
    switch (mode) {
      case 1: this.application = on; break;
      case 6: this.origin = on; break;
      case 7: this.autowrap = on; break;
      case 25: this.cursor = on; break;
      case 2004: this.bracketed = on; break;
      case 47: case 1047: case 1049:
        if (on && !this.other) {
          if (mode === 1049) this.save();
          this.other = { lines: this.lines, saved: this.saved };
          this.lines = this.empty();
        } else if (!on && this.other) {
          ({ lines: this.lines, saved: this.saved } = this.other);
          this.other = null;
          if (mode === 1049) this.restore();
        }
        Object.assign(this, { top: 0, bottom: this.rows - 1 });
        break;
      default:
    }
  }

  look(text) {
    const codes = text.replaceAll(':', ';').split(';').map((part) => Number.parseInt(part || '0', 10));
    let style = { ...this.style };
    for (let place = 0; place < codes.length; place += 1) {
      const code = codes[place];
      if (code === 0) style = { ...PLAIN };
      else if (code === 1) style.bold = true;
      else if (code === 2) style.dim = true;
      else if (code === 3) style.italic = true;
      else if (code === 4) style.underline = true;
      else if (code === 7) style.inverse = true;
      else if (code === 22) style.bold = style.dim = false;
      else if (code === 23) style.italic = false;
      else if (code === 24) style.underline = false;
      else if (code === 27) style.inverse = false;
      else if (code >= 30 && code <= 37) style.fg = colour(code - 30);
      else if (code >= 90 && code <= 97) style.fg = colour(code - 82);
      else if (code >= 40 && code <= 47) style.bg = colour(code - 40);
      else if (code >= 100 && code <= 107) style.bg = colour(code - 92);
      else if (code === 39) style.fg = null;
      else if (code === 49) style.bg = null;
      else if (code === 38 || code === 48) {
        const key = code === 38 ? 'fg' : 'bg';
        if (codes[place + 1] === 5) { style[key] = colour((codes[place + 2] ?? 0) & 255); place += 2; }
        else if (codes[place + 1] === 2) {
          const part = (offset) => (codes[place + offset] ?? 0) & 255;
          style[key] = `rgb(${part(2)},${part(3)},${part(4)})`;
          place += 4;
        }
      }
    }
    this.style = Object.freeze(style);
  }

  /** What is on the screen, as text. */
  text() { return this.lines.map((line) => line.map((cell) => cell.text).join('').trimEnd()).join('\n').trimEnd(); }
}

const KEYS = {
  Enter: '\r', Backspace: '\x7f', Tab: '\t', Escape: '\x1b', Delete: '\x1b[3~', Insert: '\x1b[2~', PageUp: '\x1b[5~', PageDown: '\x1b[6~',
  F1: '\x1bOP', F2: '\x1bOQ', F3: '\x1bOR', F4: '\x1bOS', F5: '\x1b[15~', F6: '\x1b[17~', F7: '\x1b[18~', F8: '\x1b[19~',
  F9: '\x1b[20~', F10: '\x1b[21~', F11: '\x1b[23~', F12: '\x1b[24~',
};
const MOVES = { ArrowUp: 'A', ArrowDown: 'B', ArrowRight: 'C', ArrowLeft: 'D', Home: 'H', End: 'F' };

/** What a key sends. */
export function typed(event, application = false) {
  if (event.key in MOVES) {
    const change = 1 + (event.shiftKey ? 1 : 0) + (event.altKey ? 2 : 0) + (event.ctrlKey ? 4 : 0);
    if (change > 1) return `\x1b[1;${change}${MOVES[event.key]}`;
    return `\x1b${application ? 'O' : '['}${MOVES[event.key]}`;
  }
  if (event.key === 'Tab' && event.shiftKey) return '\x1b[Z';
  if (event.key in KEYS) return (event.altKey ? '\x1b' : '') + KEYS[event.key];
  if (event.ctrlKey && !event.altKey && event.key.length === 1) {
    const code = event.key.toUpperCase().charCodeAt(0);
    if (code >= 0x40 && code <= 0x5f) return String.fromCharCode(code & 0x1f);
    if (event.key === ' ') return '\0';
    return null;
  }
  // Some keyboards need it for what is on the key itself, such as @ and |.
  if (event.getModifierState?.('AltGraph') || (event.altKey && /^Mac/.test(navigator.platform))) return null;
  if (event.altKey && event.key.length === 1) return `\x1b${event.key}`;
  return null;
}

/** A terminal on the page. `send(text)` takes what is typed, `resized(rows, columns)` is told of a new size. */
export class Terminal {
  constructor(element, { send, resized }) {
    Object.assign(this, { element, resized, drawn: false });
    this.screen = new Screen(24, 80, send);
    this.input = document.createElement('textarea');
    Object.assign(this.input, { autocapitalize: 'off', spellcheck: false, rows: 1 });
    this.input.setAttribute('aria-label', 'Terminal input. Control, Shift and Escape leave it');
    this.input.autocomplete = 'off';
    this.view = document.createElement('div');
    this.view.setAttribute('role', 'log');
    this.view.setAttribute('aria-label', 'Terminal output');
    element.replaceChildren(this.view, this.input);
    element.addEventListener('click', () => { if (!String(window.getSelection())) this.input.focus(); });
    this.input.addEventListener('focus', () => element.classList.add('focused'));
    this.input.addEventListener('blur', () => element.classList.remove('focused'));
    this.input.addEventListener('keydown', (event) => {
      // Out of the terminal without a mouse.
      if (event.key === 'Escape' && event.ctrlKey && event.shiftKey) { this.input.blur(); event.preventDefault(); return; }
      // The browser's own copy and paste.
      if ((event.ctrlKey && event.shiftKey) || event.metaKey || event.isComposing) return;
      const text = typed(event, this.screen.application);
      if (text === null) return;
      event.preventDefault();
      send(text);
    });
    this.input.addEventListener('input', (event) => {
      if (event.isComposing) return;
      if (this.input.value) send(this.input.value);
      this.input.value = '';
    });
    this.input.addEventListener('compositionend', () => { if (this.input.value) send(this.input.value); this.input.value = ''; });
    this.input.addEventListener('paste', (event) => {
      event.preventDefault();
      const text = event.clipboardData.getData('text/plain').replaceAll('\r\n', '\r').replaceAll('\n', '\r');
      // What is pasted cannot end the bracket.
      send(this.screen.bracketed ? `\x1b[200~${text.replaceAll('\x1b', '')}\x1b[201~` : text);
    });
    this.watcher = new ResizeObserver(() => this.fit());
    this.watcher.observe(element);
    this.fit();
  }

  /** As many rows and columns as there is room for. */
  fit() {
    const probe = document.createElement('span');
    probe.textContent = 'M'.repeat(50);
    probe.className = 'row';
    this.view.append(probe);
    const { width } = probe.getBoundingClientRect();
    probe.remove();
    const look = getComputedStyle(this.element);
    const high = Number.parseFloat(look.lineHeight) || 18;
    const room = (side, a, b) => side - Number.parseFloat(look[a]) - Number.parseFloat(look[b]);
    if (!width) return;
    const columns = Math.max(20, Math.min(500, Math.floor(room(this.element.clientWidth, 'paddingLeft', 'paddingRight') / (width / 50))));
    const rows = Math.max(4, Math.min(200, Math.floor(room(this.element.clientHeight, 'paddingTop', 'paddingBottom') / high)));
    if (rows !== this.screen.rows || columns !== this.screen.columns) {
      this.screen.resize(rows, columns);
      this.resized(rows, columns);
      this.draw();
    }
  }

  write(bytes) {
    this.screen.write(bytes);
    this.draw();
  }

  /** Draws once per frame, however much came. */
  draw() {
    if (this.drawn) return;
    this.drawn = true;
    requestAnimationFrame(() => {
      this.drawn = false;
      const { screen } = this;
      this.view.replaceChildren(...screen.lines.map((line, row) => this.line(line, row)));
    });
  }

  line(cells, row) {
    const element = document.createElement('div');
    element.className = 'row';
    const here = (column) => this.screen.cursor && row === this.screen.row && column === this.screen.column;
    let at = 0;
    while (at < cells.length) {
      const { style } = cells[at];
      let text = cells[at].text;
      const cursor = here(at);
      let to = at + 1;
      while (!cursor && to < cells.length && cells[to].style === style && !here(to)) { text += cells[to].text; to += 1; }
      if (style === PLAIN && !cursor) element.append(text);
      else {
        const span = document.createElement('span');
        span.textContent = text || ' ';
        const turned = style.inverse !== cursor;
        const [fg, bg] = turned ? [style.bg ?? 'var(--screen)', style.fg ?? 'var(--screen-ink)'] : [style.fg, style.bg];
        if (fg) span.style.color = fg;
        if (bg) span.style.backgroundColor = bg;
        if (style.bold) span.style.fontWeight = '700';
        if (style.dim) span.style.opacity = '.65';
        if (style.italic) span.style.fontStyle = 'italic';
        if (style.underline) span.style.textDecoration = 'underline';
        element.append(span);
      }
      at = to;
    }
    return element;
  }

  close() { this.watcher.disconnect(); }
}
