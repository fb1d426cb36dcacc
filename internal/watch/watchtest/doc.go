// Package watchtest is an API server for tests: it behaves as a real one does where that matters to who reads changes,
// it misbehaves on command in every way that a real one was seen to, and it remembers what truly happened.
//
// A test makes a server, writes objects through Create, Update and Delete, and compares what its subject delivered
// with History and StateAt:
//
//	s := watchtest.New(t, watchtest.Pods, watchtest.Events)
//	cfg := s.Config() // a *rest.Config that leads to it
//	rv := s.Create(watchtest.Pods, "shop/web-1", watchtest.Labels("app", "web"), watchtest.Spec(`{"nodeName":"n1"}`))
//	s.Update(watchtest.Pods, "shop/web-1", watchtest.Status(`{"phase":"Running"}`))
//	s.DeleteTogether(watchtest.Events, "shop/e1", "shop/e2") // two deletions at one resourceVersion
//
// # Time
//
// Config serves HTTP/1.1 over net.Pipe, so that a server made inside a synctest bubble lives in the bubble's time;
// Close, which New leaves to the test's clean-up, joins all of its goroutines. TLSConfig and WriteKubeconfig serve
// the same over TCP and TLS, for other processes. Outside of a bubble Await waits for what is to happen.
//
// # History
//
// There is one resourceVersion for all, which begins at 100. etcd and the watch caches forget separately:
//
//	CompactStore  exact LISTs and continue tokens expire; watches only where the resource has no watch cache
//	Forget        watches expire, exact LISTs still answer
//	Compact       both
//	Restart       the watch caches forget everything, and connections break
//	Rewind        etcd is restored from a backup: later writes are lost, and their versions are given again
//
// History, StateAt and Requests forget nothing.
//
// # Faults
//
// On makes requests go wrong that are still to come, the commands (CutWatches and so on) do it to live watches, Down
// and Freeze to connections:
//
//	s.On(watchtest.Watches(watchtest.Pods).Times(2), watchtest.Fail(429, "TooManyRequests", "slow down"), watchtest.RetryAfter(3*time.Second))
//	s.On(watchtest.Lists().After(1), watchtest.CutBody(1000))
//	s.CutWatchesWithin(40, watchtest.Pods)
//
// Fired counts how often each kind has happened, and a request's record tells what happened to it. Not everything
// that a test does to a watch is seen by its client: what is on its way when a command comes may still arrive, and a
// watch that is told to end is told nothing of the changes that wait.
//
// Forbid is what a client learns, too, that asks what it may do. SkewClock moves the clock that Date headers show.
//
// # What differs from a real server
//
// Only JSON is spoken and nothing is compressed. Writes go through the methods of Server, not through HTTP. Versions
// of one group do not share their objects. Watch lists (sendInitialEvents) are refused as by a server without the
// feature. A LIST at resourceVersion "0" is never stale. Every bookmark comes exactly on time.
package watchtest
