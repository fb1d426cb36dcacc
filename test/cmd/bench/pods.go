package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
)

const (
	jsonType     = "application/json"
	protobufType = "application/vnd.kubernetes.protobuf"
	// firstVersion is the resourceVersion of pod 0. All have as many digits, so that a frame can be given another.
	firstVersion = 100_000_000
)

var apps = [...]string{"checkout", "payments-api", "frontend", "search-indexer", "recommendation-engine", "inventory", "auth-gateway"}

// fieldsOf are managedFields as a controller and a kubelet leave them behind.
const (
	controllerFields = `{"f:metadata":{"f:annotations":{".":{},"f:checksum/config":{},"f:prometheus.io/port":{},"f:prometheus.io/scrape":{}},"f:generateName":{},"f:labels":{".":{},"f:app.kubernetes.io/component":{},"f:app.kubernetes.io/instance":{},"f:app.kubernetes.io/name":{},"f:app.kubernetes.io/part-of":{},"f:pod-template-hash":{}},"f:ownerReferences":{".":{},"k:{\"uid\":\"%s\"}":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"app\"}":{".":{},"f:args":{},"f:env":{".":{},"k:{\"name\":\"LOG_LEVEL\"}":{".":{},"f:name":{},"f:value":{}},"k:{\"name\":\"POD_IP\"}":{".":{},"f:name":{},"f:valueFrom":{".":{},"f:fieldRef":{}}}},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:ports":{".":{},"k:{\"containerPort\":8080,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:name":{},"f:protocol":{}}},"f:readinessProbe":{".":{},"f:failureThreshold":{},"f:httpGet":{".":{},"f:path":{},"f:port":{},"f:scheme":{}},"f:periodSeconds":{},"f:successThreshold":{},"f:timeoutSeconds":{}},"f:resources":{".":{},"f:limits":{".":{},"f:memory":{}},"f:requests":{".":{},"f:cpu":{},"f:memory":{}}},"f:terminationMessagePath":{},"f:terminationMessagePolicy":{},"f:volumeMounts":{".":{},"k:{\"mountPath\":\"/etc/app\"}":{".":{},"f:mountPath":{},"f:name":{},"f:readOnly":{}}}}},"f:dnsPolicy":{},"f:enableServiceLinks":{},"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{},"f:serviceAccount":{},"f:serviceAccountName":{},"f:terminationGracePeriodSeconds":{},"f:volumes":{".":{},"k:{\"name\":\"config\"}":{".":{},"f:configMap":{".":{},"f:defaultMode":{},"f:name":{}},"f:name":{}}}}}`
	kubeletFields    = `{"f:status":{"f:conditions":{"k:{\"type\":\"ContainersReady\"}":{".":{},"f:lastProbeTime":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}},"k:{\"type\":\"Initialized\"}":{".":{},"f:lastProbeTime":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}},"k:{\"type\":\"PodReadyToStartContainers\"}":{".":{},"f:lastProbeTime":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}},"k:{\"type\":\"Ready\"}":{".":{},"f:lastProbeTime":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}}},"f:containerStatuses":{},"f:hostIP":{},"f:hostIPs":{},"f:observedGeneration":{},"f:phase":{},"f:podIP":{},"f:podIPs":{".":{},"k:{\"ip\":\"%s\"}":{".":{},"f:ip":{}}},"f:startTime":{}}}`
)

// digits are n hexadecimal digits that look random and are the same for the same number and salt.
func digits(n, i int, salt string) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%d", salt, i)
	s := fmt.Sprintf("%016x", h.Sum64())
	for len(s) < n {
		s += s
	}
	return s[:n]
}

func uid(i int, salt string) types.UID {
	d := digits(32, i, salt)
	return types.UID(d[:8] + "-" + d[8:12] + "-4" + d[13:16] + "-a" + d[17:20] + "-" + d[20:])
}

// pod is the i-th pod: as one that a deployment made, a kubelet runs and an API server sends, about 6 KB in JSON. But for its
// name, uid and version it is as the one ring before it.
func pod(i int) *corev1.Pod {
	this := i
	i %= ring
	app := apps[i%len(apps)]
	set := app + "-" + digits(9, i%97, "set")
	ip := fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255)
	created := metav1.NewTime(time.Date(2026, 9, 1, 10, 0, i, 0, time.UTC))
	ready := metav1.NewTime(created.Add(7 * time.Second))
	var conditions []corev1.PodCondition
	for _, t := range []corev1.PodConditionType{"PodReadyToStartContainers", corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		conditions = append(conditions, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: ready})
	}
	image := "registry.example.com/shop/" + app
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("%s-%05x", set, this), GenerateName: set + "-", Namespace: fmt.Sprintf("team-%02d", i%23),
			UID: types.UID(fmt.Sprintf("%08x", this)) + uid(i, "pod")[8:], ResourceVersion: fmt.Sprint(firstVersion + this), Generation: 1, CreationTimestamp: created,
			Labels: map[string]string{
				"app.kubernetes.io/component": "server", "app.kubernetes.io/instance": app + "-prod", "app.kubernetes.io/name": app,
				"app.kubernetes.io/part-of": "shop", "pod-template-hash": set[len(app)+1:],
			},
			Annotations: map[string]string{
				"checksum/config": digits(64, i, "config"), "prometheus.io/port": "8080", "prometheus.io/scrape": "true",
			},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: set, UID: uid(i%97, "set"),
				Controller: new(true), BlockOwnerDeletion: new(true)}},
			ManagedFields: []metav1.ManagedFieldsEntry{
				{Manager: "kube-controller-manager", Operation: "Update", APIVersion: "v1", Time: &created, FieldsType: "FieldsV1",
					FieldsV1: metav1.NewFieldsV1(fmt.Sprintf(controllerFields, uid(i%97, "set")))},
				{Manager: "kubelet", Operation: "Update", APIVersion: "v1", Time: &ready, FieldsType: "FieldsV1", Subresource: "status",
					FieldsV1: metav1.NewFieldsV1(fmt.Sprintf(kubeletFields, ip))},
			},
		},
		Spec: corev1.PodSpec{
			Volumes: []corev1.Volume{{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: app + "-config"}, DefaultMode: new(int32(420))}}}},
			Containers: []corev1.Container{{
				Name: "app", Image: image + ":v1.42.3",
				Args:  []string{"--listen=:8080", "--config=/etc/app/config.yaml", "--expr=a < b && c > d"},
				Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}},
				Env: []corev1.EnvVar{{Name: "LOG_LEVEL", Value: "info"},
					{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status.podIP"}}}},
				Resources: corev1.ResourceRequirements{
					Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("512Mi")},
					Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m"), corev1.ResourceMemory: resource.MustParse("256Mi")},
				},
				VolumeMounts: []corev1.VolumeMount{{Name: "config", ReadOnly: true, MountPath: "/etc/app"}},
				ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromString("http"), Scheme: "HTTP"}},
					TimeoutSeconds: 1, PeriodSeconds: 5, SuccessThreshold: 1, FailureThreshold: 3},
				TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: "File", ImagePullPolicy: "IfNotPresent",
			}},
			RestartPolicy: "Always", TerminationGracePeriodSeconds: new(int64(30)), DNSPolicy: "ClusterFirst",
			ServiceAccountName: app, DeprecatedServiceAccount: app, NodeName: fmt.Sprintf("ip-10-0-%d-%d.eu-west-1.compute.internal", i%7, i%200),
			SecurityContext: &corev1.PodSecurityContext{}, SchedulerName: "default-scheduler",
			Tolerations: []corev1.Toleration{
				{Key: "node.kubernetes.io/not-ready", Operator: "Exists", Effect: "NoExecute", TolerationSeconds: new(int64(300))},
				{Key: "node.kubernetes.io/unreachable", Operator: "Exists", Effect: "NoExecute", TolerationSeconds: new(int64(300))}},
			Priority: new(int32(0)), EnableServiceLinks: new(true), PreemptionPolicy: new(corev1.PreemptLowerPriority),
		},
		Status: corev1.PodStatus{
			ObservedGeneration: 1, Phase: corev1.PodRunning, Conditions: conditions, HostIP: "10.0.3.17", HostIPs: []corev1.HostIP{{IP: "10.0.3.17"}},
			PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, StartTime: &created, QOSClass: corev1.PodQOSBurstable,
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: "app", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: ready}}, Ready: true, Started: new(true),
				RestartCount: int32(i % 4), Image: image + ":v1.42.3", ImageID: image + "@sha256:" + digits(64, i%7, "image"),
				ContainerID: "containerd://" + digits(64, i, "container"),
			}},
		},
	}
}

// A frame is an encoded pod, alone or in a watch frame, and where its name's last digits, its uid and its version are.
type frame struct {
	bytes              []byte
	name, uid, version int
}

// frameOf is what the i-th pod was encoded to.
func frameOf(b []byte, i int) frame {
	p := pod(i)
	return frame{b, bytes.Index(b, []byte(p.Name)) + len(p.GenerateName), bytes.Index(b, []byte(p.UID)), bytes.Index(b, []byte(p.ResourceVersion))}
}

// append appends the frame of another pod, which is the i-th, in another version.
func (f *frame) append(dst []byte, i, version int) []byte {
	at := len(dst)
	dst = append(dst, f.bytes...)
	appendHex(dst[:at+f.name], 5, i)
	appendHex(dst[:at+f.uid], 8, i)
	strconv.AppendInt(dst[:at+f.version], int64(version), 10)
	return dst
}

func appendHex(dst []byte, digits, n int) {
	for digits--; digits >= 0; digits-- {
		dst = append(dst, "0123456789abcdef"[n>>(4*digits)&15])
	}
}

// encode is an object as the API server's own serializer writes it.
func encode(mediaType string, obj runtime.Object) []byte {
	info, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), mediaType)
	var b bytes.Buffer
	_ = info.Serializer.Encode(obj, &b) // into memory, and these objects can be encoded
	return b.Bytes()
}

// newFrame is a watch frame as the API server writes it: a line in JSON, and behind its length in protobuf.
func newFrame(mediaType, typ string, obj runtime.Object) []byte {
	ev := &metav1.WatchEvent{Type: typ, Object: runtime.RawExtension{Raw: bytes.TrimSuffix(encode(mediaType, obj), []byte("\n"))}}
	info, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), mediaType)
	var b bytes.Buffer
	_ = info.StreamSerializer.Serializer.Encode(ev, &b)
	if mediaType == protobufType {
		return append(binary.BigEndian.AppendUint32(nil, uint32(b.Len())), b.Bytes()...)
	}
	return b.Bytes()
}

// listItem is an item of a list of metadata in protobuf.
func listItem(o *metav1.PartialObjectMetadata) []byte {
	b, _ := o.Marshal() // these objects can be marshalled
	return protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), b)
}

// partial is what a pod is to those who ask for metadata only.
func partial(p *corev1.Pod) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{ObjectMeta: p.ObjectMeta}
}
