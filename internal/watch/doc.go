// Package watch reads the changes of Kubernetes resources and writes them into a sink, in order, without an informer
// cache: raw frames of direct watches, resumed by resourceVersion.
//
// The promise, and where it is kept:
//
//   - Changes are written in the API server's order, each once: stream.advance moves a position only to where everything
//     is known to have come, and writer.commit alone hands events to the sink.
//   - No change is skipped silently: what the API server delivered is written; when it has forgotten the position,
//     stream.repair says so with a gap before anything else is written.
//   - What changed in a gap is found out, as far as anybody knows it: stream.compare holds what exists against the ledger,
//     stream.heal writes each difference, and opens no second gap, since compare has opened the watch behind it.
//   - A position never passes what the sink has acknowledged: it travels with the events, and only Sink.Commit makes it
//     durable. So does the ledger: it is the fold of the events, in the stream and in the sink alike.
//   - A crash at any step is a normal way to stop: runner.resumeFrom puts each stream where the sink has got, stream.start
//     goes on from there, and what was written behind it is written again with the same ids.
//   - An API server that was restored from a backup is noticed before anything of its new history is written:
//     stream.isRewound asks it, with the newest state that was seen as a witness, and stream.rewind begins the next epoch.
//   - Nothing that the API server or the network does ends a stream that has started: classify gives every error its
//     meaning, stream.settle waits and goes on.
package watch
