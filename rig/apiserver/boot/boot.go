// Package boot prepares what kube-apiserver needs (etcd, certificates, tokens, kubeconfigs, audit policy), ends the process at once
// on SIGTERM and, when the API answers, starts the controllers.
package boot

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// etcd, the API server and its watch caches share this process: with as few threads as two cores give, etcd's watch streams starve
// under load and the watch caches fall seconds behind.
const threadsMin = 8

// How long etcd may take to flush its backend after SIGTERM before the process leaves anyway.
const stopLimit = 2 * time.Second

// Options are the flags of the process.
type Options struct {
	Dir                      string
	Bind                     string
	Port, EtcdPort, PeerPort int
	Extra                    []string // further kube-apiserver flags, after --
}

// Server is a prepared API server: its files, its etcd and its address.
type Server struct {
	options Options
	files   files
	etcdURL string
	url     string
	started time.Time
}

// ParseFlags reads the command line.
func ParseFlags() Options {
	var o Options
	flag.StringVar(&o.Dir, "dir", "", "folder of all state: etcd data, certificates, kubeconfigs, audit log")
	flag.StringVar(&o.Bind, "bind", "127.0.0.1", "address to listen on")
	flag.IntVar(&o.Port, "port", 6443, "port of the Kubernetes API")
	flag.IntVar(&o.EtcdPort, "etcd-port", 2379, "client port of the embedded etcd")
	flag.IntVar(&o.PeerPort, "peer-port", 2380, "peer port of the embedded etcd")
	flag.Parse()
	o.Extra = flag.Args()
	if o.Dir == "" {
		must(fmt.Errorf("--dir is required"))
	}
	return o
}

// Start brings up etcd and writes every file the API server and its clients need.
func Start(o Options) *Server {
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) < threadsMin {
		runtime.GOMAXPROCS(threadsMin)
	}
	dir, err := filepath.Abs(o.Dir)
	must(err)
	o.Dir = dir
	s := &Server{options: o, files: newFiles(dir), started: time.Now(), url: "https://" + net.JoinHostPort(o.Bind, fmt.Sprint(o.Port))}
	must(os.MkdirAll(s.files.pki, 0o700))
	must(os.RemoveAll(s.files.ready))
	// etcd starts while keys are made
	etcdStarted := make(chan etcdServer, 1)
	go func() { etcdStarted <- startEtcd(o) }()
	s.writeFiles()
	etcd := <-etcdStarted
	s.etcdURL = etcd.url
	go leaveOnSignal(etcd)
	go s.afterReady()
	return s
}

// Args are the kube-apiserver flags.
func (s *Server) Args() []string {
	f := s.files
	return append([]string{
		"--etcd-servers=" + s.etcdURL,
		"--bind-address=" + s.options.Bind,
		fmt.Sprintf("--secure-port=%d", s.options.Port),
		"--tls-cert-file=" + f.cert("server"), "--tls-private-key-file=" + f.key("server"),
		"--client-ca-file=" + f.cert("ca"),
		"--token-auth-file=" + f.tokens,
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + f.serviceAccountPublic(),
		"--service-account-signing-key-file=" + f.key("sa"),
		"--service-cluster-ip-range=10.96.0.0/16",
		"--endpoint-reconciler-type=none",
		"--allow-privileged=true",
		// no controller makes the default service accounts nor their root CA config map here
		"--disable-admission-plugins=ServiceAccount",
		// some clusters ask an owner for its finalizers before its child may block its deletion: whoever makes children here must be allowed to
		"--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
		// the limits of a control plane with more than two cores: a test of ours must not measure the rig's queue
		"--max-requests-inflight=2000", "--max-mutating-requests-inflight=1000",
		"--audit-policy-file=" + f.auditPolicy,
		"--audit-log-path=" + f.auditLog,
		"--audit-log-format=json",
		// never rotated: tests read the whole history of a run
		"--audit-log-maxsize=100000",
		"--v=0",
	}, s.options.Extra...)
}

// announce prints one line for people and writes the file that says which process serves.
func (s *Server) announce() {
	fmt.Printf("ready after %.2f s: server=%s pid=%d\n", time.Since(s.started).Seconds(), s.url, os.Getpid())
	body, err := json.Marshal(map[string]any{"pid": os.Getpid(), "server": s.url, "ready_s": time.Since(s.started).Seconds()})
	must(err)
	writeWhole(s.files.ready, body)
}

// leaveOnSignal closes etcd (flushing its backend) and leaves: kube-apiserver's own graceful stop waits 60 s for open watches.
func leaveOnSignal(etcd etcdServer) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	<-signals
	time.AfterFunc(stopLimit, func() { os.Exit(0) })
	etcd.stop()
	os.Exit(0)
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "fatal:", err)
		os.Exit(1)
	}
}
