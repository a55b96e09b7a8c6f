// What pages need beside htmx: figures that a stream renews, charts, and the dialog.
(() => {
  'use strict';
  const body = document.body;

  // A name is that of an element's data-live. Only text that differs is written, so that nothing flickers and no focus is lost.
  function renew(figures) {
    for (const element of document.querySelectorAll('[data-live]')) {
      const name = element.dataset.live, text = figures[name] ?? '';
      if (name === 'problem') element.hidden = !text;
      else if (!text) continue;
      if (element.textContent === text) continue;
      element.textContent = text;
      if ('value' in element.dataset) element.dataset.value = text;
    }
    for (const element of document.querySelectorAll('[data-flow]')) {
      element.classList.toggle('moving', !['0', '', undefined].includes(figures[element.dataset.flow]));
    }
  }

  function live(text, on) {
    for (const element of document.querySelectorAll('.live')) {
      if (element.textContent !== text) element.textContent = text;
      element.classList.toggle('on', on);
    }
  }

  body.addEventListener('htmx:sseOpen', () => live('Live', true));
  body.addEventListener('htmx:sseError', () => live('Reconnecting', false));
  body.addEventListener('htmx:sseBeforeMessage', (message) => {
    if (message.detail.type !== 'figures') return;
    message.preventDefault(); // it is no HTML
    renew(JSON.parse(message.detail.data));
    draw();
  });
  body.addEventListener('htmx:oobErrorNoTarget', (event) => event.preventDefault()); // an event that the page no longer shows
  body.addEventListener('htmx:afterSwap', (event) => {
    if (event.detail.target?.id === 'dialog-body') {
      const dialog = document.getElementById('dialog');
      if (!dialog.open) dialog.showModal();
    }
  });
  body.addEventListener('htmx:sseMessage', () => {
    const events = document.getElementById('events');
    while (events && events.children.length > events.dataset.most) events.lastElementChild.remove();
  });
  body.addEventListener('click', (event) => {
    if (event.target.closest('[data-close]')) document.getElementById('dialog').close();
  });
  document.getElementById('dialog').addEventListener('close', () => {
    const pane = document.getElementById('dialog-body');
    if (pane.querySelector('.job')) location.reload(); // something was changed
    pane.replaceChildren();
  });

  // Charts
  const place = document.querySelector('[data-series]');
  const dark = matchMedia('(prefers-color-scheme: dark)');
  let plots = [], drawn = 0, latest = null;

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const figure = (value, unit) => value == null ? '–' : value.toLocaleString('en', { maximumFractionDigits: 1 }) + (unit ? ' ' + unit : '');

  function options(chart, width) {
    const ink = style('--dim'), grid = style('--line');
    const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: '12px system-ui, sans-serif' };
    return {
      width, height: 170, legend: { live: false, show: false }, cursor: { y: false, points: { size: 6 } },
      scales: { x: { range: () => [Date.now() / 1000 - 3600, Date.now() / 1000] }, y: { range: (_, low, high) => [0, Math.max(high ?? 0, 1) * 1.1] } },
      axes: [{ ...axis, size: 30, space: 70, values: (_, ticks) => ticks.map((t) => new Date(t * 1000).toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' })) },
        { ...axis, size: 44, values: (_, ticks) => ticks.map((t) => figure(t)) }],
      series: [{}, ...chart.series.map((label, i) => ({
        label, stroke: style('--series-' + (i % 6 + 1)), width: 2, spanGaps: true, points: { show: (plot) => plot.data[0].length < 3 },
        fill: i === 0 ? style('--series-fill') : undefined,
      }))],
      hooks: { setCursor: [(plot) => legend(plot.root.parentElement, chart, plot.cursor.idx)] },
    };
  }

  // The legend says each series' value at the cursor, or its latest one.
  function legend(card, chart, at) {
    const values = card.querySelectorAll('.legend .num');
    chart.series.forEach((_, i) => {
      const data = chart.data[i + 1];
      values[i].textContent = figure(at == null ? data[data.length - 1] : data[at], chart.unit);
    });
  }

  function build() {
    plots.forEach((plot) => plot.destroy());
    place.replaceChildren();
    plots = latest.map((chart) => {
      const card = document.createElement('figure');
      card.className = 'card chart';
      const title = document.createElement('figcaption');
      title.textContent = chart.title;
      const names = document.createElement('ul');
      names.className = 'legend';
      chart.series.forEach((name, i) => {
        const item = document.createElement('li'), value = document.createElement('span');
        item.className = 'series-' + (i % 6 + 1);
        value.className = 'num';
        item.append(name + ' ', value);
        names.append(item);
      });
      card.append(title, names);
      place.append(card);
      const plot = new uPlot(options(chart, card.clientWidth - 24), chart.data, card);
      plot.root.setAttribute('aria-hidden', 'true'); // the legend says the same in words
      legend(card, chart, null);
      return plot;
    });
    place.plots = plots;
  }

  async function draw() {
    if (!place || Date.now() - drawn < 8000) return;
    drawn = Date.now();
    const answer = await fetch(place.dataset.series);
    if (!answer.ok) return;
    const before = latest;
    latest = await answer.json();
    if (before && JSON.stringify(before.map((c) => c.series)) === JSON.stringify(latest.map((c) => c.series))) {
      plots.forEach((plot, i) => {
        Object.assign(before[i], latest[i]); // what the cursor's hook reads
        plot.setData(latest[i].data);
        legend(plot.root.parentElement, latest[i], null);
      });
      latest = before;
    } else build();
  }

  if (place) {
    draw();
    dark.addEventListener('change', () => latest && build());
    let waiting;
    new ResizeObserver(() => {
      clearTimeout(waiting);
      waiting = setTimeout(() => plots.forEach((plot) => plot.setSize({ width: plot.root.parentElement.clientWidth - 24, height: 170 })), 100);
    }).observe(place);
  }
})();
