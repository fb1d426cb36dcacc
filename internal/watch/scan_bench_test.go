package watch

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// BenchmarkScan measures what one object costs, next to what it costs to copy it, or to validate it with a library.
// scan must not allocate.
func BenchmarkScan(b *testing.B) {
	for _, kind := range kinds {
		objects := samples(b, kind, 256)
		run := func(name string, read func(obj []byte) error) {
			b.Run(kind+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(len(objects[0])))
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if err := read(objects[i%len(objects)]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		var o object
		var dst []byte
		run("memmove", func(obj []byte) error { dst = append(dst[:0], obj...); return nil })
		run("scan", o.scan)
		run("scan-and-cut", func(obj []byte) error {
			err := o.scan(obj)
			dst = appendWithout(dst[:0], obj, o.managedFields, o.lastApplied)
			return err
		})
		run("scan-and-frame", frameBench(&o))
		var src bytes.Buffer
		var d jsontext.Decoder
		reset := func(obj []byte) {
			src = *bytes.NewBuffer(obj)
			d.Reset(&src, jsontext.AllowDuplicateNames(true))
		}
		run("jsontext-value", func(obj []byte) error { reset(obj); _, err := d.ReadValue(); return err })
		run("jsontext-tokens", func(obj []byte) error { reset(obj); return readTokens(&d) })
		run("json-valid", func(obj []byte) error { json.Valid(obj); return nil })
	}
}

// frameBench scans an object and makes an event of it that is freed at once.
func frameBench(o *object) func([]byte) error {
	cutter := newCutter(Resource{}, Selection{Payload: PayloadFull}, &framePool{})
	var n names
	return func(obj []byte) error {
		err := o.scan(obj)
		cutter.frame(o, obj, &n).free()
		return err
	}
}

// BenchmarkScanShares measures how much of a scan it is to hash, and to find the newest entry of managedFields where they
// could be skipped.
func BenchmarkScanShares(b *testing.B) {
	for _, kind := range kinds {
		objects := samples(b, kind, 256)
		var scanned object
		var hashed []func()
		var entries [][]byte
		for _, obj := range objects {
			hashed = append(hashed, hashBench(b, obj))
			entries = append(entries, lastMember(b, lastMember(b, obj, "metadata"), "managedFields"))
		}
		run := func(name string, step func(i int)) {
			b.Run(kind+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					step(i % len(objects))
				}
			})
		}
		run("scan", func(i int) { _ = scanned.scan(objects[i]) })
		run("hash", func(i int) { hashed[i]() })
		run("managedFields-read", func(i int) {
			_, _ = scanned.readManagedFields(entries[i], 0)
			scanned.newest.attribution()
		})
		run("managedFields-skipped", func(i int) { _, _ = skipValue(entries[i], 0, 2) })
	}
}

// hashBench hashes obj, whose members are found beforehand, as a scan does.
func hashBench(b *testing.B, obj []byte) func() {
	var spec, meta []span
	var status []byte
	members := func(value []byte, yield func(key string, whole []byte, at span)) {
		eachMember(b, value, func(key string, _, whole []byte) {
			start := cap(obj) - cap(whole)
			yield(key, whole, span{start, start + len(whole)})
		})
	}
	members(obj, func(key string, whole []byte, at span) {
		switch key {
		case "kind", "apiVersion", "metadata":
		case "status":
			status = whole
		default:
			spec = append(spec, at)
		}
	})
	start := bytes.Index(obj, []byte(`"metadata":`)) + len(`"metadata":`)
	members(obj[start:start+len(lastMember(b, obj, "metadata"))], func(key string, _ []byte, at span) {
		if new(metadata).set([]byte(key), []byte("0")) && key != "managedFields" {
			meta = append(meta, at)
		}
	})
	return func() {
		var s, m part
		for _, at := range spec {
			s.add(obj, at)
		}
		for _, at := range meta {
			m.add(obj, at)
		}
		_, _, _ = s.sum(obj), m.sum(obj), hash(status)
	}
}

// BenchmarkScanFrame measures whole watch frames, as they arrive.
func BenchmarkScanFrame(b *testing.B) {
	var frames [][]byte
	size := 0
	for _, obj := range samples(b, "pod", 256) {
		frames = append(frames, fmt.Appendf(nil, `{"type":"MODIFIED","object":%s}`+"\n", obj))
		size += len(frames[len(frames)-1])
	}
	b.SetBytes(int64(size / len(frames)))
	b.ReportAllocs()
	var o object
	for i := 0; b.Loop(); i++ {
		if _, _, err := o.scanFrame(frames[i%len(frames)]); err != nil {
			b.Fatal(err)
		}
	}
}

// readTokens walks one value token by token, which is the least that finds anything in it.
func readTokens(d *jsontext.Decoder) error {
	for {
		if _, err := d.ReadToken(); err != nil || d.StackDepth() == 0 {
			return err
		}
	}
}

// samples makes n distinct objects of a kind, of about 6 KB each, in the bytes an API server would send. They differ in the
// length of their strings, so that a branch predictor cannot learn them by heart.
func samples(t testing.TB, kind string, n int) [][]byte {
	apps := []string{"checkout", "payments-api", "web", "search-indexer", "recommendation-engine", "auth", "cart-v2"}
	certificate := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("0123456789abcdef~"), 110))
	var out [][]byte
	for i := range n {
		r := strings.NewReplacer(
			"CERTIFICATE", certificate[:1500+i], "CONFIG", strings.Repeat(config, 12), "APP", apps[i%len(apps)],
			"SUFFIX", fmt.Sprintf("%05x", i*i), "SPACE", fmt.Sprint("team-", i), "HASH", fmt.Sprintf("%x", 1<<20+i*7919),
			"OWNER", fmt.Sprintf("%08x-1d2c-4b7a-9f00-%012x", i*31, i), "UID", fmt.Sprintf("%08x-d18a-4792-a97f-%012x", i*17, i),
			"VERSION", fmt.Sprint(900+i*i*i), "ADDRESS", fmt.Sprintf("10.%d.%d.7", i%7, i))
		var line bytes.Buffer
		if err := json.Compact(&line, []byte(r.Replace(r.Replace(templates[kind])))); err != nil {
			t.Fatal(err)
		}
		out = append(out, line.Bytes())
	}
	return out
}

// config is a file as it looks inside a JSON string.
const config = `upstream APP {\n` +
	`  server APP-HASH.SPACE.svc:8080 max_fails=3;\n` +
	`  keepalive 64; # Größe nach Messung, siehe \"Betrieb\"\n` +
	`}\n` +
	`location /APP/ {\n` +
	`\tproxy_set_header Host \"$host\";\n` +
	`\tproxy_pass http://APP$request_uri;\n` +
	`\tif ($args ~ \"a\\\\.b\") { return 403; }\n` +
	`}\n`

var kinds = []string{"pod", "deployment", "configmap", "widget"}

var templates = map[string]string{
	"pod": `
{"kind":"Pod","apiVersion":"v1","metadata":{"name":"APP-HASH-SUFFIX","generateName":"APP-HASH-","namespace":"SPACE",
"uid":"UID","resourceVersion":"VERSION","generation":1,"creationTimestamp":"2026-09-01T10:00:07Z","labels":{
"app.kubernetes.io/component":"server","app.kubernetes.io/instance":"APP-prod","app.kubernetes.io/name":"APP",
"app.kubernetes.io/part-of":"shop","pod-template-hash":"HASH"},"annotations":{"checksum/config":
"4f1e0d7c9b5a3f2e8d6c4b2a190f8e7d6c5b4a39281706f5e4d3c2b1a0998877","prometheus.io/port":"8080",
"prometheus.io/scrape":"true"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"APP-HASH",
"uid":"OWNER","controller":true,"blockOwnerDeletion":true}],"managedFields":[{"manager":"kube-controller-manager",
"operation":"Update","apiVersion":"v1","time":"2026-09-01T10:00:07Z","fieldsType":"FieldsV1","fieldsV1":{
"f:metadata":{"f:annotations":{".":{},"f:checksum/config":{},"f:prometheus.io/port":{},"f:prometheus.io/scrape":{}},
"f:generateName":{},"f:labels":{".":{},"f:app.kubernetes.io/component":{},"f:app.kubernetes.io/instance":{},
"f:app.kubernetes.io/name":{},"f:app.kubernetes.io/part-of":{},"f:pod-template-hash":{}},"f:ownerReferences":{".":{
},"k:{\"uid\":\"OWNER\"}":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"app\"}":{".":{},"f:args":{},"f:env":{".":{},
"k:{\"name\":\"LOG_LEVEL\"}":{".":{},"f:name":{},"f:value":{}},"k:{\"name\":\"POD_IP\"}":{".":{},"f:name":{},
"f:valueFrom":{".":{},"f:fieldRef":{}}}},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:ports":{".":{},
"k:{\"containerPort\":8080,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:name":{},"f:protocol":{}}},
"f:readinessProbe":{".":{},"f:failureThreshold":{},"f:httpGet":{".":{},"f:path":{},"f:port":{},"f:scheme":{}},
"f:periodSeconds":{},"f:successThreshold":{},"f:timeoutSeconds":{}},"f:resources":{".":{},"f:limits":{".":{},
"f:memory":{}},"f:requests":{".":{},"f:cpu":{},"f:memory":{}}},"f:terminationMessagePath":{},
"f:terminationMessagePolicy":{},"f:volumeMounts":{".":{},"k:{\"mountPath\":\"/etc/app\"}":{".":{},"f:mountPath":{},
"f:name":{},"f:readOnly":{}}}}},"f:dnsPolicy":{},"f:enableServiceLinks":{},"f:restartPolicy":{},"f:schedulerName":{
},"f:securityContext":{},"f:serviceAccount":{},"f:serviceAccountName":{},"f:terminationGracePeriodSeconds":{},
"f:volumes":{".":{},"k:{\"name\":\"config\"}":{".":{},"f:configMap":{".":{},"f:defaultMode":{},"f:name":{}},
"f:name":{}}}}}},{"manager":"kubelet","operation":"Update","apiVersion":"v1","time":"2026-09-01T10:00:14Z",
"fieldsType":"FieldsV1","fieldsV1":{"f:status":{"f:conditions":{"k:{\"type\":\"ContainersReady\"}":{".":{},
"f:lastProbeTime":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}},"k:{\"type\":\"Initialized\"}":{".":{},
"f:lastProbeTime":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}},
"k:{\"type\":\"PodReadyToStartContainers\"}":{".":{},"f:lastProbeTime":{},"f:lastTransitionTime":{},"f:status":{},
"f:type":{}},"k:{\"type\":\"Ready\"}":{".":{},"f:lastProbeTime":{},"f:lastTransitionTime":{},"f:status":{},"f:type":
{}}},"f:containerStatuses":{},"f:hostIP":{},"f:hostIPs":{},"f:observedGeneration":{},"f:phase":{},"f:podIP":{},
"f:podIPs":{".":{},"k:{\"ip\":\"ADDRESS\"}":{".":{},"f:ip":{}}},"f:startTime":{}}},"subresource":"status"}]},"spec":
{"volumes":[{"name":"config","configMap":{"name":"APP-config","defaultMode":420}}],"containers":[{"name":"app",
"image":"registry.example.com/shop/APP:v1.42.3","args":["--listen=:8080","--config=/etc/app/config.yaml",
"--expr=a \u003c b \u0026\u0026 c \u003e d"],"ports":[{"name":"http","containerPort":8080,"protocol":"TCP"}],"env":[
{"name":"LOG_LEVEL","value":"info"},{"name":"POD_IP","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":
"status.podIP"}}}],"resources":{"limits":{"memory":"512Mi"},"requests":{"cpu":"250m","memory":"256Mi"}},
"volumeMounts":[{"name":"config","readOnly":true,"mountPath":"/etc/app"}],"readinessProbe":{"httpGet":{"path":
"/readyz","port":"http","scheme":"HTTP"},"timeoutSeconds":1,"periodSeconds":5,"successThreshold":1,
"failureThreshold":3},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File",
"imagePullPolicy":"IfNotPresent"}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":
"ClusterFirst","serviceAccountName":"APP","serviceAccount":"APP","nodeName":
"ip-10-0-0-7.eu-west-1.compute.internal","securityContext":{},"schedulerName":"default-scheduler","tolerations":[{
"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300},{"key":
"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}],"priority":0,
"enableServiceLinks":true,"preemptionPolicy":"PreemptLowerPriority"},"status":{"observedGeneration":1,"phase":
"Running","conditions":[{"type":"PodReadyToStartContainers","status":"True","lastProbeTime":null,
"lastTransitionTime":"2026-09-01T10:00:14Z"},{"type":"Initialized","status":"True","lastProbeTime":null,
"lastTransitionTime":"2026-09-01T10:00:14Z"},{"type":"Ready","status":"True","lastProbeTime":null,
"lastTransitionTime":"2026-09-01T10:00:14Z"},{"type":"ContainersReady","status":"True","lastProbeTime":null,
"lastTransitionTime":"2026-09-01T10:00:14Z"},{"type":"PodScheduled","status":"True","lastProbeTime":null,
"lastTransitionTime":"2026-09-01T10:00:14Z"}],"hostIP":"10.0.3.17","hostIPs":[{"ip":"10.0.3.17"}],"podIP":"ADDRESS",
"podIPs":[{"ip":"ADDRESS"}],"startTime":"2026-09-01T10:00:07Z","containerStatuses":[{"name":"app","state":{
"running":{"startedAt":"2026-09-01T10:00:14Z"}},"lastState":{},"ready":true,"restartCount":3,"image":
"registry.example.com/shop/APP:v1.42.3","imageID":
"registry.example.com/shop/APP@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
"containerID":"containerd://20dd7a25a6cd717f2cb57414b29a48d5388a62ffbe7282a2e5a1b9146b910205","started":true}],
"qosClass":"Burstable"}}`,
	"deployment": `
{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"APP","namespace":"SPACE","uid":"UID",
"resourceVersion":"VERSION","generation":7,"creationTimestamp":"2026-09-01T10:00:07Z","labels":{
"app.kubernetes.io/name":"APP","app.kubernetes.io/part-of":"shop"},"annotations":{
"deployment.kubernetes.io/revision":"4","kubectl.kubernetes.io/last-applied-configuration":
"{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"annotations\":{},\"labels\":{\"app.kubernetes.io/name\":\"APP\"},\"name\":\"APP\",\"namespace\":\"SPACE\"},\"spec\":{\"replicas\":3,\"selector\":{\"matchLabels\":{\"app.kubernetes.io/name\":\"APP\"}},\"template\":{\"metadata\":{\"labels\":{\"app.kubernetes.io/name\":\"APP\",\"app.kubernetes.io/part-of\":\"shop\"}},\"spec\":{\"containers\":[{\"name\":\"app\",\"image\":\"registry.example.com/shop/APP:v1.42.3\",\"args\":[\"--listen=:8080\",\"--expr=a < b && c > d\"],\"ports\":[{\"name\":\"http\",\"containerPort\":8080,\"protocol\":\"TCP\"}],\"env\":[{\"name\":\"LOG_LEVEL\",\"value\":\"info\"},{\"name\":\"GREETING\",\"value\":\"Grüß Gott, שלום, 你好\"}],\"resources\":{\"limits\":{\"memory\":\"512Mi\"},\"requests\":{\"cpu\":\"250m\",\"memory\":\"256Mi\"}},\"terminationMessagePath\":\"/dev/termination-log\",\"terminationMessagePolicy\":\"File\",\"imagePullPolicy\":\"IfNotPresent\"}],\"restartPolicy\":\"Always\",\"terminationGracePeriodSeconds\":30,\"dnsPolicy\":\"ClusterFirst\",\"securityContext\":{\"runAsNonRoot\":true,\"fsGroup\":2000},\"schedulerName\":\"default-scheduler\"}}}}\n"},
"managedFields":[{"manager":"kubectl-client-side-apply","operation":"Update","apiVersion":"apps/v1","time":
"2026-09-01T10:00:07Z","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:annotations":{".":{},
"f:kubectl.kubernetes.io/last-applied-configuration":{}},"f:labels":{".":{},"f:app.kubernetes.io/name":{},
"f:app.kubernetes.io/part-of":{}}},"f:spec":{"f:progressDeadlineSeconds":{},"f:replicas":{},
"f:revisionHistoryLimit":{},"f:selector":{},"f:strategy":{"f:rollingUpdate":{".":{},"f:maxSurge":{},
"f:maxUnavailable":{}},"f:type":{}},"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"app\"}":{".":{},"f:args":
{},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:env":{".":{},"k:{\"name\":\"LOG_LEVEL\"}":{".":{},"f:name":{},
"f:value":{}},"k:{\"name\":\"GREETING\"}":{".":{},"f:name":{},"f:value":{}}},"f:ports":{".":{},
"k:{\"containerPort\":8080,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:name":{},"f:protocol":{}}}}},
"f:dnsPolicy":{},"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{},"f:terminationGracePeriodSeconds":
{}}}}}},{"manager":"kube-controller-manager","operation":"Update","apiVersion":"apps/v1","time":
"2026-09-01T10:00:19Z","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:annotations":{
"f:deployment.kubernetes.io/revision":{}}},"f:status":{"f:availableReplicas":{},"f:observedGeneration":{},
"f:readyReplicas":{},"f:replicas":{},"f:updatedReplicas":{},"f:conditions":{".":{},"k:{\"type\":\"Available\"}":{
".":{},"f:lastTransitionTime":{},"f:lastUpdateTime":{},"f:message":{},"f:reason":{},"f:status":{},"f:type":{}},
"k:{\"type\":\"Progressing\"}":{".":{},"f:lastTransitionTime":{},"f:lastUpdateTime":{},"f:message":{},"f:reason":{},
"f:status":{},"f:type":{}}}}},"subresource":"status"}]},"spec":{"replicas":3,"selector":{"matchLabels":{
"app.kubernetes.io/name":"APP"}},"template":{"metadata":{"labels":{"app.kubernetes.io/name":"APP",
"app.kubernetes.io/part-of":"shop"}},"spec":{"containers":[{"name":"app","image":
"registry.example.com/shop/APP:v1.42.3","args":["--listen=:8080","--expr=a < b && c > d"],"ports":[{"name":"http",
"containerPort":8080,"protocol":"TCP"}],"env":[{"name":"LOG_LEVEL","value":"info"},{"name":"GREETING","value":
"Grüß Gott, שלום, 你好"}],"resources":{"limits":{"memory":"512Mi"},"requests":{"cpu":"250m","memory":"256Mi"}},
"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":
"IfNotPresent"}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst",
"securityContext":{"runAsNonRoot":true,"fsGroup":2000},"schedulerName":"default-scheduler"}},"strategy":{"type":
"RollingUpdate","rollingUpdate":{"maxUnavailable":"25%","maxSurge":"25%"}},"revisionHistoryLimit":10,
"progressDeadlineSeconds":600},"status":{"observedGeneration":7,"replicas":3,"updatedReplicas":3,"readyReplicas":3,
"availableReplicas":3,"conditions":[{"type":"Available","status":"True","lastUpdateTime":"2026-09-01T10:00:17Z",
"lastTransitionTime":"2026-09-01T10:00:17Z","reason":"MinimumReplicasAvailable","message":
"Deployment has minimum availability."},{"type":"Progressing","status":"True","lastUpdateTime":
"2026-09-01T10:00:19Z","lastTransitionTime":"2026-09-01T10:00:07Z","reason":"NewReplicaSetAvailable","message":
"ReplicaSet \"APP-HASH\" has successfully progressed."}]}}`,
	"configmap": `
{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"APP-config","namespace":"SPACE","uid":"UID",
"resourceVersion":"VERSION","creationTimestamp":"2026-09-01T10:00:07Z","managedFields":[{"manager":"helm",
"operation":"Update","apiVersion":"v1","time":"2026-09-01T10:00:07Z","fieldsType":"FieldsV1","fieldsV1":{"f:data":{
".":{},"f:ca.pem":{},"f:nginx.conf":{}}}}]},"data":{"ca.pem":"CERTIFICATE","nginx.conf":"CONFIG"}}`,
	"widget": `
{"apiVersion":"monitoring.example.com/v1","kind":"Widget","metadata":{"annotations":{"example.com/note":
"größer als nötig"},"creationTimestamp":"2026-09-01T10:00:07Z","finalizers":["example.com/guard"],"generation":12,
"labels":{"app":"APP"},"managedFields":[{"apiVersion":"monitoring.example.com/v1","fieldsType":"FieldsV1",
"fieldsV1":{"f:spec":{".":{},"f:groups":{},"f:limits":{".":{},"f:burst":{},"f:rate":{},"f:ratio":{}}}},"manager":
"widgetctl","operation":"Apply","time":"2026-09-01T10:00:07Z"},{"apiVersion":"monitoring.example.com/v1",
"fieldsType":"FieldsV1","fieldsV1":{"f:status":{".":{},"f:samples":{},"f:ready":{}}},"manager":"widget-operator",
"operation":"Update","subresource":"status","time":"2026-09-01T10:09:07Z"}],"name":"APP-HASH","namespace":"SPACE",
"resourceVersion":"VERSION","uid":"UID"},"spec":{"groups":[{"name":"rule-0","enabled":true,"expr":
"sum(rate(http_requests_total{app=\"APP\",code=~\"5..\"}[1m])) > 0.5","for":"1m","labels":{"severity":"info"},
"weights":[0,0.0,0,0.0]},{"name":"rule-1","enabled":false,"expr":
"sum(rate(http_requests_total{app=\"APP\",code=~\"5..\"}[2m])) > 1.5","for":"2m","labels":{"severity":"warning"},
"weights":[1,0.25,-1,0.001]},{"name":"rule-2","enabled":true,"expr":
"sum(rate(http_requests_total{app=\"APP\",code=~\"5..\"}[3m])) > 2.5","for":"3m","labels":{"severity":"critical"},
"weights":[2,0.5,-2,0.002]},{"name":"rule-3","enabled":false,"expr":
"sum(rate(http_requests_total{app=\"APP\",code=~\"5..\"}[4m])) > 3.5","for":"4m","labels":{"severity":"info"},
"weights":[3,0.75,-3,0.003]},{"name":"rule-4","enabled":true,"expr":
"sum(rate(http_requests_total{app=\"APP\",code=~\"5..\"}[5m])) > 4.5","for":"5m","labels":{"severity":"warning"},
"weights":[4,1.0,-4,0.004]},{"name":"rule-5","enabled":false,"expr":
"sum(rate(http_requests_total{app=\"APP\",code=~\"5..\"}[6m])) > 5.5","for":"6m","labels":{"severity":"critical"},
"weights":[5,1.25,-5,0.005]},{"name":"rule-6","enabled":true,"expr":
"sum(rate(http_requests_total{app=\"APP\",code=~\"5..\"}[7m])) > 6.5","for":"7m","labels":{"severity":"info"},
"weights":[6,1.5,-6,0.006]},{"name":"rule-7","enabled":false,"expr":
"sum(rate(http_requests_total{app=\"APP\",code=~\"5..\"}[8m])) > 7.5","for":"8m","labels":{"severity":"warning"},
"weights":[7,1.75,-7,0.007]},{"name":"rule-8","enabled":true,"expr":
"sum(rate(http_requests_total{app=\"APP\",code=~\"5..\"}[9m])) > 8.5","for":"9m","labels":{"severity":"critical"},
"weights":[8,2.0,-8,0.008]},{"name":"rule-9","enabled":false,"expr":
"sum(rate(http_requests_total{app=\"APP\",code=~\"5..\"}[10m])) > 9.5","for":"10m","labels":{"severity":"info"},
"weights":[9,2.25,-9,0.009000000000000001]},{"name":"rule-10","enabled":true,"expr":
"sum(rate(http_requests_total{app=\"APP\",code=~\"5..\"}[11m])) > 10.5","for":"11m","labels":{"severity":"warning"},
"weights":[10,2.5,-10,0.01]},{"name":"rule-11","enabled":false,"expr":
"sum(rate(http_requests_total{app=\"APP\",code=~\"5..\"}[12m])) > 11.5","for":"12m","labels":{"severity":
"critical"},"weights":[11,2.75,-11,0.011]}],"limits":{"burst":200,"rate":1500.0,"ratio":0.125,"hard":null}},
"status":{"ready":true,"samples":[{"at":"2026-09-01T10:00:00Z","value":0.0,"ok":false},{"at":"2026-09-01T10:01:00Z",
"value":3.1416,"ok":true},{"at":"2026-09-01T10:02:00Z","value":12.5664,"ok":true},{"at":"2026-09-01T10:03:00Z",
"value":28.2743,"ok":false},{"at":"2026-09-01T10:04:00Z","value":50.2654,"ok":true},{"at":"2026-09-01T10:05:00Z",
"value":78.5397,"ok":true},{"at":"2026-09-01T10:06:00Z","value":113.0972,"ok":false},{"at":"2026-09-01T10:07:00Z",
"value":153.9379,"ok":true},{"at":"2026-09-01T10:08:00Z","value":201.0618,"ok":true},{"at":"2026-09-01T10:09:00Z",
"value":254.4688,"ok":false},{"at":"2026-09-01T10:10:00Z","value":314.159,"ok":true},{"at":"2026-09-01T10:11:00Z",
"value":380.1324,"ok":true},{"at":"2026-09-01T10:12:00Z","value":452.389,"ok":false},{"at":"2026-09-01T10:13:00Z",
"value":530.9287,"ok":true},{"at":"2026-09-01T10:14:00Z","value":615.7516,"ok":true},{"at":"2026-09-01T10:15:00Z",
"value":706.8578,"ok":false},{"at":"2026-09-01T10:16:00Z","value":804.247,"ok":true},{"at":"2026-09-01T10:17:00Z",
"value":907.9195,"ok":true},{"at":"2026-09-01T10:18:00Z","value":1017.8752,"ok":false},{"at":"2026-09-01T10:19:00Z",
"value":1134.114,"ok":true},{"at":"2026-09-01T10:20:00Z","value":1256.636,"ok":true},{"at":"2026-09-01T10:21:00Z",
"value":1385.4412,"ok":false},{"at":"2026-09-01T10:22:00Z","value":1520.5296,"ok":true},{"at":
"2026-09-01T10:23:00Z","value":1661.9011,"ok":true},{"at":"2026-09-01T10:24:00Z","value":1809.5558,"ok":false},{
"at":"2026-09-01T10:25:00Z","value":1963.4937,"ok":true},{"at":"2026-09-01T10:26:00Z","value":2123.7148,"ok":true},{
"at":"2026-09-01T10:27:00Z","value":2290.2191,"ok":false},{"at":"2026-09-01T10:28:00Z","value":2463.0066,"ok":true},
{"at":"2026-09-01T10:29:00Z","value":2642.0772,"ok":true}]}}`,
}
