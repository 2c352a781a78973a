const TRACKS_SEEN_FIRST = 8;
const READABLE_BP_PER_PIXEL = 0.25;
// As sequence logos have them. In the dark the style sheet inverts what is drawn, and a bright orange turns brown.
const IS_DARK = matchMedia("(prefers-color-scheme: dark)").matches;
const COLORS = {A: "#109648", C: "#255c99", G: IS_DARK ? "#7d4b00" : "#f7a21b", T: "#d62839", N: "#888888"};
const IGV_STYLE = `.igv-viewport .igv-track-label { top: 1px !important; left: 2px; margin: 0; padding: 0 4px; border: none;
  background: none; font-weight: 600; }
  @media (max-width: 700px) {
    .igv-navbar, .igv-navbar-left-container, .igv-navbar-genomic-location { flex-wrap: wrap !important; height: auto !important; }
    .igv-navbar-left-container > *, .igv-navbar-genomic-location { justify-content: flex-start !important; }
  }`;
const GENES_HINT = "To find genes by their names, give them: tism-scan view FOLDER --genes GENES.gtf";
const byId = (id) => document.getElementById(id);
const place = byId("igv");
const say = (text) => { byId("message").textContent = text; };

function loadScript(attributes) {
  return new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement("script"), attributes);
    script.onload = resolve;
    script.onerror = () => { script.remove(); reject(new Error(`${attributes.src} cannot be loaded`)); };
    document.head.append(script);
  });
}

// A copy beside the page comes first, so that the page asks no other host where there is one.
async function loadIgv() {
  try {
    await loadScript({src: place.dataset.igvFile});
  } catch {
    await loadScript({src: place.dataset.igvUrl, integrity: place.dataset.igvIntegrity, crossOrigin: "anonymous"});
  }
}

async function fetchFile(path) {
  const response = await fetch(path, {cache: "no-store"});
  if (!response.ok) throw new Error(`${path}: ${response.status} ${response.statusText}`);
  return response;
}

// Only `tism-scan view` has settings, and says so; another server would answer 404.
async function fetchSettings(response, session) {
  if (!response.headers.has("X-Tism-Scan-View")) return null;
  return fetchFile(session.tism_scan.view).then((found) => found.json()).catch(() => null);
}

// `served` is what `tism-scan view` says of itself; a page that it serves asks no other host.
function options(session, served) {
  const wanted = {
    locus: session.locus, search: false, loadDefaultGenomes: false, nucleotideColors: COLORS,
    showCenterGuideButton: false, showSampleNameButton: false, showROITableButton: false,
  };
  if (served?.genome) {
    wanted.reference = served.genome;
    wanted.tracks = [{type: "sequence", order: -1000}];
  } else if (session.tism_scan.genome_id && !served) {
    Object.assign(wanted, {genome: session.tism_scan.genome_id, search: true, loadDefaultGenomes: true});
  } else {
    wanted.reference = session.reference;
  }
  return wanted;
}

async function makeBrowser(session, served) {
  const wanted = options(session, served);
  try {
    return [await igv.createBrowser(place, wanted), Boolean(wanted.genome || served?.genome)];
  } catch (error) {
    if (!wanted.genome) throw error;
    place.replaceChildren();
    const own = options({...session, tism_scan: {...session.tism_scan, genome_id: null}}, null);
    return [await igv.createBrowser(place, own), false];
  }
}

function sayWhatIsSeen(browser, hasLetters) {
  const frame = browser.referenceFrameList[0];
  const near = isNear(frame.chr, frame.bpPerPixel);
  byId("letters-key").hidden = !(near && hasLetters);
  byId("bars-key").hidden = near && hasLetters;
  document.querySelector(".beyond-key").hidden = !near;
  const limit = Math.floor(LETTERS_BP_PER_PIXEL * browser.calculateViewportWidth(1) / 100) * 100;
  byId("hint").textContent = !near
    ? `Each pixel shows its highest and its lowest score. Zoom in below ${limit.toLocaleString("en")} bp to see single bases.`
    : !hasLetters ? "One bar a base."
    : frame.bpPerPixel > READABLE_BP_PER_PIXEL ? "One letter a base, as tall as its score. Zoom in further to read them."
    : "One letter a base, as tall as its score. Lower case in the top row: soft-masked in the FASTA.";
}

function drawBasesKey() {
  byId("bases").replaceChildren(..."ACGT".split("").map((base) => {
    const letter = Object.assign(document.createElement("span"), {className: "base", textContent: base});
    letter.style.color = COLORS[base];
    return letter;
  }));
}

function pickTracks(session, chosen, show) {
  const names = session.tism_scan.names;
  const choices = byId("choices");
  const count = () => { byId("count").textContent = `Tracks: ${chosen.size} of ${names.length} shown`; };
  names.forEach((name, i) => {
    const box = Object.assign(document.createElement("input"), {type: "checkbox", checked: chosen.has(i)});
    const label = document.createElement("label");
    label.append(box, ` ${name}`);
    box.onchange = async () => {
      if (box.checked) chosen.add(i); else chosen.delete(i);
      count();
      await show(i, box.checked);
    };
    choices.append(label);
  });
  byId("filter").oninput = (event) => {
    const part = event.target.value.toLowerCase();
    [...choices.children].forEach((label, i) => { label.hidden = !names[i].toLowerCase().includes(part); });
  };
  byId("picker").hidden = false;
  count();
  return (i) => {
    if (!chosen.delete(i)) return;
    choices.children[i].querySelector("input").checked = false;
    count();
  };
}

function scoreConfig(session, i) {
  const [letters, overview] = ["letters", "overview"].map((role) => session.tracks.find(
    (track) => track.tism_scan.track === i && track.tism_scan.role === role));
  const {name, color, altColor} = letters;
  return {type: "score", name, order: i + 1, color, altColor, letters, overview, tism_scan: {track: i, role: "score"}};
}

function annotationConfigs(session, served) {
  const own = served?.tracks ?? [];
  const isGenes = (track) => track.tism_scan.role === "genes";
  const exported = session.tracks.filter((track) => track.tism_scan.role === "annotation"
    || (isGenes(track) && !own.some(isGenes)));
  return [...exported, ...own].sort((a, b) => isGenes(b) - isGenes(a)).map(
    (track, i, all) => ({...track, order: i - all.length}));
}

// The search box and the address say what they do not find.
function makeSearch(browser, example, hasGenes) {
  const search = browser.search.bind(browser);
  browser.search = async (text, ...rest) => {
    say("");
    const isFound = await search(text, ...rest).catch(() => false);
    if (!isFound) {
      say(`${text} is not found: no chrom of these tracks${hasGenes ? " and no gene" : ""} has that name, and it is no place. `
        + `Expected a place such as ${example}.${hasGenes ? "" : ` ${GENES_HINT}`}`);
    }
    return true;
  };
  return browser.search;
}

async function start() {
  if (location.protocol === "file:") {
    say("A browser does not let a page read files beside it. Run: tism-scan view FOLDER");
    return;
  }
  const response = await fetchFile(place.dataset.session);
  const session = await response.json();
  const served = await fetchSettings(response, session);
  await loadIgv();
  igv.registerTrackCreatorFunction("score", (config, browser) => new (makeScoreTrackClass())(config, browser));
  const [browser, hasLetters] = await makeBrowser(session, served);
  place.shadowRoot.append(Object.assign(document.createElement("style"), {textContent: IGV_STYLE}));
  drawBasesKey();
  const tell = () => sayWhatIsSeen(browser, hasLetters);
  const chosen = new Set([...session.tism_scan.names.keys()].slice(0, TRACKS_SEEN_FIRST));
  const show = async (i, isWanted) => {
    if (isWanted) await browser.loadTrackList([scoreConfig(session, i)]);
    else browser.findTracks((track) => track.config?.tism_scan?.track === i).forEach((track) => browser.removeTrack(track));
  };
  const annotations = annotationConfigs(session, served);
  await browser.loadTrackList([...annotations, ...[...chosen].map((i) => scoreConfig(session, i))]);
  const search = makeSearch(browser, session.locus, annotations.some((track) => track.searchable));
  if (!hasLetters) byId("note").textContent = "There is no genome here, so bars are drawn in place of letters. For letters, run: tism-scan view FOLDER --genome GENOME.fa";
  const asked = new URLSearchParams(location.search).get("locus");
  if (asked) await search(asked);
  tell();
  browser.on("locuschange", tell);
  const leaveOut = pickTracks(session, chosen, show);
  // igv.js has a menu of its own with which a track is removed.
  browser.on("trackremoved", (removed) => [removed].flat().forEach((track) => leaveOut(track.config?.tism_scan?.track)));
  showSummary(session, search);
  window.tismBrowser = browser;
  document.body.dataset.ready = "yes";
}

start().catch((error) => {
  say(`The page cannot be drawn: ${error?.message || error}`);
  document.body.dataset.ready = "no";
});
