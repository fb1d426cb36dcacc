// Package watch reads the changes of Kubernetes resources and writes them into a sink, in order, without an informer
// cache: raw frames of direct watches, resumed by resourceVersion.
//
// The promise, and where it is kept:
//
//   - Changes are written in the API server's order, each once: stream.advance moves a position only to where everything
//     is known to have come, and writer.commit alone hands events to the sink.
//   - No change is skipped silently: what the API server delivered is written; when it has forgotten the position,
//     stream.repair says so with a gap before anything else is written.
//   - A position never passes what the sink has acknowledged: it travels with the events, and only Sink.Commit makes it
//     durable.
//   - Nothing that the API server or the network does ends a stream that has started: classify gives every error its
//     meaning, stream.settle waits and goes on.
package watch
