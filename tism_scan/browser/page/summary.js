// The summary: what the tracks are made of, their limits, and links to their highest seqlets.
const SEQLET_FLANK_BP = 30;

function element(name, text, ...inside) {
  const made = document.createElement(name);
  made.textContent = text;
  made.append(...inside);
  return made;
}

function showSummary(session, search) {
  const {names, summary} = session.tism_scan;
  byId("made-of").replaceChildren(...Object.entries(summary.made_of).flatMap(
    ([name, text]) => [element("dt", name), element("dd", text)]));
  const number = (value) => value === null ? "none" : String(value);
  document.querySelector("#figures tbody").replaceChildren(...summary.tracks.map((track, i) => element("tr", "",
    ...[names[i], number(track.limit), number(track.lowest), number(track.highest), `${(100 * track.share).toFixed(1)} %`]
      .map((text) => element("td", text)))));
  const chosen = byId("seqlets-of");
  chosen.replaceChildren(...names.map((name, i) => Object.assign(element("option", name), {value: i})));
  chosen.onchange = () => showSeqlets(summary.tracks[chosen.value].seqlets, search);
  chosen.onchange();
  byId("summary").hidden = false;
}

function showSeqlets(seqlets, search) {
  const rows = seqlets.map(([chrom, start, end, extreme, name]) => {
    const place = `${chrom}:${(start + 1).toLocaleString("en")}-${end.toLocaleString("en")}`;
    const around = `${chrom}:${Math.max(1, start + 1 - SEQLET_FLANK_BP)}-${end + SEQLET_FLANK_BP}`;
    const link = Object.assign(element("a", place), {href: `?locus=${encodeURIComponent(around)}`});
    link.onclick = (event) => {
      event.preventDefault();
      search(around);
    };
    return element("li", "", link, ` ${extreme > 0 ? "+" : ""}${extreme}${name ? ` ${name}` : ""}`);
  });
  byId("seqlets").replaceChildren(...(rows.length ? rows : [element("p", "There are none.")]));
}
