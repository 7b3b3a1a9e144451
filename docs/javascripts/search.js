// The theme fetches the search index with every page, of which it is the largest part. Here it waits until the reader
// touches the search, or comes with a search in the address. From a folder the index is a script, and costs nothing.
if (location.protocol !== "file:") {
  const { open, send } = XMLHttpRequest.prototype
  const wanted = new Promise((resolve) => {
    if (new URLSearchParams(location.search).has("q")) resolve()
    addEventListener("focusin", ({ target }) => {
      if (target.matches("[data-md-component=search-query]")) resolve()
    })
  })
  const waiting = new WeakSet()
  XMLHttpRequest.prototype.open = function (method, address, ...rest) {
    if (String(address).endsWith("search/search_index.json")) waiting.add(this)
    return open.call(this, method, address, ...rest)
  }
  XMLHttpRequest.prototype.send = function (...body) {
    if (waiting.has(this)) wanted.then(() => send.apply(this, body))
    else send.apply(this, body)
  }
}
