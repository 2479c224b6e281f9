// A worker for pages from the disk, where browsers refuse `new Worker(url)`: a hidden frame runs the script, and messages
// go there and back. The search asks for no more than this.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inside = this.frame.contentWindow;
      inside.postMessage = (data) => this.tell(new MessageEvent("message", {data}));        // from the script
      inside.importScripts = (...urls) => urls.reduce((before, next) => before.then(() => this.load(next)), Promise.resolve());
      this.ready = this.load(url);
    }
    load(url) {
      return new Promise((done, failed) => {
        const script = this.frame.contentDocument.createElement("script");
        Object.assign(script, {src: url, onload: done, onerror: failed});
        this.frame.contentDocument.body.append(script);
      });
    }
    tell(event) {
      this.dispatchEvent(event);
      this.onmessage?.(event);
    }
    postMessage(data) {                                                                     // to the script
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", {data})));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
