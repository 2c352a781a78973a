// One track of scores, in igv.js: letters near, the highest and the lowest score of each pixel far. The mean of
// signed scores, which browsers draw by default, is flat there. One track that changes what it draws keeps its
// place, its axis and its name; two that take turns do not.
const LETTERS_BP_PER_PIXEL = 2;  // igv.js draws letters below it
const NAME_STRIP_PX = 20;  // the name stands above the bars, not on them

function makeScoreTrackClass() {
  return class ScoreTrack extends igv.TrackBase {
    static defaults = {height: 84};

    init(config) {
      super.init(config);
      this.type = "score";
      this.featureType = "numeric";
      this.resolutionAware = true;
      this.nearRange = {min: config.letters.min, max: config.letters.max};
    }

    async postInit() {
      const make = async (config) => {
        const track = await this.browser.createTrack(structuredClone(config));
        await track.postInit();
        return track;
      };
      const {letters, overview} = this.config;
      this.letters = await make({...letters, visibilityWindow: undefined});
      [this.highest, this.lowest] = [await make(overview.tracks[0]), await make(overview.tracks[1])];
      return super.postInit();
    }

    get supportsWholeGenome() { return true; }

    get isNear() {
      const frames = this.browser.referenceFrameList ?? [];
      return frames.length > 0 && frames.every((frame) => isNear(frame.chr, frame.bpPerPixel));
    }

    // igv.js fetches again what was fetched under another name.
    get windowFunction() { return this.isNear ? "letters" : "extremes"; }

    // Of a million bases, one is always beyond the limit: far away, only what is in view tells the scale.
    get autoscale() { return !this.askedRange && !this.isNear; }

    set autoscale(isWanted) { this.askedRange = isWanted ? undefined : {...this.dataRange}; }

    get dataRange() { return this.askedRange ?? (this.isNear ? this.nearRange : this.farRange ?? this.nearRange); }

    set dataRange(range) { this.farRange = range; }

    setDataRange({min, max}) {
      this.askedRange = {min, max};
      this.trackView.repaintViews();
    }

    doAutoscale(features) {
      const values = features.map((feature) => feature.value).filter(Number.isFinite);
      const [min, max] = [Math.min(0, ...values), Math.max(0, ...values)];
      return max > min ? {min, max} : this.nearRange;
    }

    async getFeatures(chr, start, end, bpPerPixel) {
      if (isNear(chr, bpPerPixel)) return this.letters.getFeatures(chr, start, end, bpPerPixel);
      const highest = [...await this.highest.getFeatures(chr, start, end, bpPerPixel)];
      const lowest = await this.lowest.getFeatures(chr, start, end, bpPerPixel);
      const within = (features, from, to) => features.filter((each) => each.end > from && each.start < to)
        .map((each) => each.value);
      const reduce = (features, pick) => (from, to) => within(features, from, to).reduce((a, b) => pick(a, b), 0);
      return Object.assign(highest, {
        lowest, getMax: reduce(highest, Math.max), getMin: reduce(lowest, Math.min),
      });
    }

    draw(options) {
      const {context, features} = options;
      const inside = {...options, pixelHeight: options.pixelHeight - NAME_STRIP_PX};
      context.save();
      context.translate(0, NAME_STRIP_PX);
      context.beginPath();
      context.rect(0, 0, options.pixelWidth, inside.pixelHeight);
      context.clip();
      const parts = features.lowest ? [[this.highest, features], [this.lowest, features.lowest]] : [[this.letters, features]];
      for (const [track, drawn] of parts) {
        Object.assign(track, {dataRange: {...this.dataRange}, color: this.color, altColor: this.altColor});
        track.draw({...inside, features: drawn});
      }
      context.restore();
    }

    paintAxis(context, width, height) {
      context.fillStyle = "white";
      context.fillRect(0, 0, width, height);
      context.save();
      context.translate(0, NAME_STRIP_PX);
      this.letters.dataRange = {...this.dataRange};
      this.letters.paintAxis(context, width, height - NAME_STRIP_PX);
      context.restore();
    }

    menuItemList() { return this.numericDataMenuItems(); }

    popupData(clickState) {
      const features = clickState.viewport.cachedFeatures ?? [];
      const place = clickState.genomicLocation;
      const at = (list) => list.find((each) => each.start <= place && place < each.end);
      const rows = features.lowest
        ? [["Highest", at(features)], ["Lowest", at(features.lowest)]] : [["Score", at(features)]];
      const found = rows.filter(([, feature]) => feature);
      if (!found.length) return [];
      const {chr, start, end} = found[0][1];
      const span = end - start > 1 ? `${Math.floor(start) + 1}-${Math.ceil(end)}` : `${start + 1}`;
      return [{name: "Position", value: `${chr}:${span}`},
        ...found.map(([name, feature]) => ({name, value: Number(feature.value.toPrecision(4))}))];
    }
  };
}

function isNear(chr, bpPerPixel) {
  return chr.toLowerCase() !== "all" && bpPerPixel < LETTERS_BP_PER_PIXEL;
}
