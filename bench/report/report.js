'use strict';
// Everything that is typed or shown goes through textContent: no label is ever markup.
const make = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value); else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
};

// ---- tables: sorting by mouse and keyboard, with reference rows kept at the top
for (const head of document.querySelectorAll('table.sortable thead th')) {
  const button = make('button', {type: 'button', title: 'sort'}, ...head.childNodes);
  head.append(button);
  button.addEventListener('click', () => {
    const heads = [...head.parentNode.children], at = heads.indexOf(head), body = head.closest('table').tBodies[0];
    const first = at ? 'descending' : 'ascending', second = at ? 'ascending' : 'descending';
    const order = head.getAttribute('aria-sort') === first ? second : first, sign = order === 'ascending' ? 1 : -1;
    heads.forEach(other => other.removeAttribute('aria-sort'));
    body.querySelectorAll('tr.family').forEach(row => row.remove());  // a sorted table has no families
    head.setAttribute('aria-sort', order);
    const name = row => row.children[0].innerText, value = row => row.children[at].dataset.value;
    const apart = row => !row.classList.contains('reference'), none = row => value(row) === undefined;
    const numbers = (a, b) => none(a) || none(b) ? none(a) - none(b) : sign * (value(a) - value(b));
    const names = (a, b) => sign * name(a).localeCompare(name(b));
    body.append(...[...body.rows].sort((a, b) => apart(a) - apart(b) || (at ? numbers : names)(a, b)));
  });
}

// ---- tables: filter, columns, copies
const announce = document.getElementById('announcement');
const copy = async text => {
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // a page from a file has no clipboard in some browsers
    const area = make('textarea');
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
  announce.textContent = 'copied';
  setTimeout(() => { announce.textContent = ''; }, 1500);
};
const download = (name, text) => {
  const link = make('a', {href: URL.createObjectURL(new Blob([text], {type: 'text/plain'})), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};
for (const figure of document.querySelectorAll('figure.table')) {
  const table = figure.querySelector('table'), formats = JSON.parse(figure.querySelector('script').textContent);
  const rows = () => [...table.tBodies[0].rows];
  const filter = make('input', {type: 'search', placeholder: 'filter methods', 'aria-label': 'filter methods', oninput: () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows()) {
      const text = row.children[0].innerText.toLowerCase();
      row.hidden = words.length > 0 && !words.some(word => text.includes(word));
    }
  }});
  const columns = make('details', {class: 'columns'}, make('summary', {}, 'columns'));
  [...table.tHead.rows[0].cells].slice(1).forEach((cell, index) => {
    const box = make('input', {type: 'checkbox', onchange: () => {
      for (const row of table.rows) if (row.cells.length > 1) row.cells[index + 1].hidden = !box.checked;
    }});
    box.checked = true;
    columns.append(make('label', {}, box, ' ' + cell.innerText));
  });
  const bar = make('div', {class: 'bar'}, filter, columns);
  for (const [name, text] of Object.entries(formats.texts)) {
    bar.append(make('button', {type: 'button', onclick: () => copy(text)}, `copy ${name}`));
  }
  bar.append(make('button', {type: 'button', onclick: () => download(`${formats.key}.csv`, formats.texts.CSV)}, 'download CSV'));
  figure.prepend(bar);
}

// ---- score against cost, with axes of the reader's choice
const drawing = make('div');
drawing.innerHTML = '<svg></svg>';
const SVG = drawing.firstChild.namespaceURI, WIDTH = 720, HEIGHT = 380, LEFT = 62, BOTTOM = 44, TOP = 12, RIGHT = 150;
const shape = (name, attributes, text = '') => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text) element.textContent = text;
  return element;
};
const ticks = (low, high, isLog) => {
  if (isLog) {
    const powers = [];
    for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++) powers.push(10 ** p);
    const inside = powers.filter(v => v >= low && v <= high);
    if (inside.length > 1) return inside;
  }
  const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(k => k * power).find(s => s >= raw);
  const first = Math.ceil(low / step) * step;
  return Array.from({length: 12}, (_, i) => Number((first + i * step).toPrecision(12))).filter(v => v <= high);
};
function drawExplorer(svg, group, keys) {
  const axes = keys.map(key => group.axes[key]);
  const points = group.points.filter(p => keys.every(key => p.values[key] !== null && p.values[key] !== undefined))
    .map(p => ({...p, at: keys.map(key => p.values[key])}));
  svg.replaceChildren();
  if (!points.length) {
    svg.append(shape('text', {x: 20, y: 40, class: 'tick'}, 'no row has both'));
    return;
  }
  const scales = [0, 1].map(i => {
    const values = points.map(p => p.at[i]), isLog = axes[i].better < 0 && Math.min(...values) > 0
      && Math.max(...values) / Math.min(...values) > 20;
    const map = isLog ? Math.log10 : v => v, raw = values.map(map);
    const room = (Math.max(...raw) - Math.min(...raw) || Math.abs(raw[0]) || 1) * 0.06;
    const low = Math.min(...raw) - room, high = Math.max(...raw) + room;
    const [from, to] = i ? [HEIGHT - BOTTOM, TOP] : [LEFT, WIDTH - RIGHT];
    const undo = isLog ? v => 10 ** v : v => v;
    return {isLog, low: undo(low), high: undo(high), place: v => from + (map(v) - low) / (high - low) * (to - from)};
  });
  const [x, y] = scales.map(scale => scale.place);
  for (const v of ticks(scales[0].low, scales[0].high, scales[0].isLog)) {
    svg.append(shape('line', {x1: x(v), x2: x(v), y1: TOP, y2: HEIGHT - BOTTOM, class: 'grid'}),
      shape('text', {x: x(v), y: HEIGHT - BOTTOM + 15, class: 'tick', 'text-anchor': 'middle'}, `${v}`));
  }
  for (const v of ticks(scales[1].low, scales[1].high, scales[1].isLog)) {
    svg.append(shape('line', {x1: LEFT, x2: WIDTH - RIGHT, y1: y(v), y2: y(v), class: 'grid'}),
      shape('text', {x: LEFT - 6, y: y(v) + 4, class: 'tick', 'text-anchor': 'end'}, `${v}`));
  }
  svg.append(shape('text', {x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 8, class: 'axis', 'text-anchor': 'middle'}, axes[0].title),
    shape('text', {x: 14, y: HEIGHT / 2, class: 'axis', 'text-anchor': 'middle',
      transform: `rotate(-90 14 ${HEIGHT / 2})`}, axes[1].title));
  // the Pareto staircase: what no ranked row beats on both axes
  const gain = (p, i) => axes[i].better * p.at[i], ranked = points.filter(p => !p.reference);
  const front = ranked.filter(p => !ranked.some(q => q !== p && gain(q, 0) >= gain(p, 0) && gain(q, 1) >= gain(p, 1)
    && (gain(q, 0) > gain(p, 0) || gain(q, 1) > gain(p, 1)))).sort((a, b) => gain(b, 0) - gain(a, 0));
  if (front.length > 1 && axes.every(axis => axis.better)) {
    let path = `M${x(front[0].at[0])} ${y(front[0].at[1])}`;
    for (const p of front.slice(1)) path += `H${x(p.at[0])}V${y(p.at[1])}`;
    svg.append(shape('path', {d: path, class: 'front'}));
  }
  const names = [];
  for (const p of [...points].sort((a, b) => y(a.at[1]) - y(b.at[1]))) {
    const text = `${p.label}: ${axes.map((axis, i) => `${axis.title} ${Number(p.at[i].toPrecision(5))}`).join(', ')}`;
    const dot = shape('circle', {cx: x(p.at[0]), cy: y(p.at[1]), r: front.includes(p) ? 6 : 4.5, fill: p.reference ? 'none' : p.colour,
      stroke: p.reference ? 'currentColor' : p.colour, tabindex: 0, role: 'img', 'aria-label': text});
    dot.append(shape('title', {}, text));
    svg.append(dot);
    const place = {x: x(p.at[0]) + 8, y: y(p.at[1]) + 4};
    if (!names.some(n => Math.abs(n.y - place.y) < 12 && Math.abs(n.x - place.x) < 120)) {
      names.push(place);
      const label = p.label.length > 24 ? `${p.label.slice(0, 23)}…` : p.label;
      svg.append(shape('text', {...place, class: 'name'}, label));
    }
  }
}
const explorer = document.getElementById('explorer');
if (explorer) {
  for (const group of JSON.parse(explorer.querySelector('script').textContent)) {
    const keys = Object.keys(group.axes), costs = keys.filter(key => group.axes[key].better < 0);
    const chosen = [costs[0] || keys[0], keys.includes('average') ? 'average' : keys[keys.length - 1]];
    const svg = shape('svg', {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'group', 'aria-label': `scores and costs of ${group.title}`});
    const selects = ['across', 'up'].map((name, i) => {
      const select = make('select', {'aria-label': `axis ${name}`, onchange: () => {
        chosen[i] = select.value;
        drawExplorer(svg, group, chosen);
      }}, ...keys.map(key => make('option', {value: key}, group.axes[key].title)));
      select.value = chosen[i];
      return make('label', {}, `${name}: `, select);
    });
    explorer.append(make('h3', {}, group.title), make('div', {class: 'bar'}, ...selects), svg);
    drawExplorer(svg, group, chosen);
  }
}

// ---- runs: a link opens its part
const open = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const part = target && target.closest('details');
  if (part) { part.open = true; part.scrollIntoView(); }
};
window.addEventListener('hashchange', open);
open();
const search = document.getElementById('run-filter');
if (search) search.addEventListener('input', () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const part of document.querySelectorAll('details.run')) {
    const text = part.querySelector('summary').textContent.toLowerCase();
    part.hidden = !words.every(word => text.includes(word));
  }
});

// ---- what is to be seen: pictures where they are here, and words about those of the miniature world
const inWords = shown => shown.things ? shown.things.map(t => `${t.colour} ${t.shape}`).join(', ')
  : `${shown.events.map(e => `${e.words} (${e.seconds[0]} to ${e.seconds[1]} s)`).join(', then ')}; ${shown.place}`;
function seen(example) {
  const words = (example.shows ?? []).map(inWords).join(' | '), pictures = example.pictures ?? [];
  const alt = words || 'picture of the example';
  return [
    ...pictures.length ? [make('div', {class: 'pictures'}, ...pictures.map((src, at) => make('img', {src, alt: at ? '' : alt})))] : [],
    ...words ? [make('p', {class: 'soft'}, `to be seen: ${words}`)] : [],
  ];
}

// ---- predictions of two methods on the same examples
const panel = document.getElementById('predictions-panel');
if (panel) {
  const tasks = JSON.parse(panel.querySelector('script').textContent), list = make('div', {class: 'cards'});
  const choose = (name, options, changed) => {
    const select = make('select', {'aria-label': name, onchange: changed}, ...options.map(([value, text]) => make('option', {value}, text)));
    return select;
  };
  const both = (a, b) => Number.isFinite(a) && Number.isFinite(b);  // without a score nothing is right or wrong
  const whatever = {all: () => true, 'A better than B': (a, b) => both(a, b) && a > b,
    'B better than A': (a, b) => both(a, b) && b > a, 'the same score': (a, b) => both(a, b) && a === b};
  const number = value => value === null || value === undefined ? 'no score' : Number(value.toPrecision(4));
  const show = () => {
    const task = tasks[Number(which.value)], [a, b] = [Number(first.value), Number(second.value)];
    const keep = whatever[filter.value];
    list.replaceChildren(...task.examples.filter(e => keep(e.scores[a], e.scores[b])).map(example => make('article', {class: 'card'},
      ...seen(example), make('p', {class: 'source'}, example.source ?? `example ${example.id} (its data are not here)`),
      make('p', {class: 'soft'}, `reference: ${example.reference}`),
      ...[a, b].map(at => make('p', {}, make('strong', {}, `${task.labels[at]}: `), example.predictions[at],
        make('span', {class: 'soft'}, ` (${number(example.scores[at])})`))),
      make('details', {}, make('summary', {}, 'all methods'), ...task.labels.map((label, at) =>
        make('p', {}, `${label}: ${example.predictions[at]} (${number(example.scores[at])})`)),
      make('p', {class: 'soft'}, [example.id, ...example.visual].join(', '))))));
    count.textContent = `${list.children.length} of ${task.examples.length} examples`;
  };
  const fill = () => {
    const labels = tasks[Number(which.value)].labels.map((label, at) => [at, label]);
    for (const [select, at] of [[first, 0], [second, labels.length - 1]]) {
      select.replaceChildren(...labels.map(([value, text]) => make('option', {value}, text)));
      select.value = at;
    }
    show();
  };
  const which = choose('task', tasks.map((task, at) => [at, task.title]), fill);
  const first = choose('method A', [], show), second = choose('method B', [], show);
  const filter = choose('which examples', Object.keys(whatever).map(name => [name, name]), show);
  const count = make('span', {class: 'soft', role: 'status'});
  panel.append(make('div', {class: 'bar'}, which, ' A: ', first, ' B: ', second, filter, count), list);
  fill();
}
