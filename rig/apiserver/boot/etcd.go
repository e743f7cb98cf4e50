package boot

import (
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

const (
	etcdStartLimit  = 60 * time.Second
	etcdQuotaBytes  = 8 << 30
	etcdMemberName  = "rig"
	etcdMaxTxnOps   = 10_000
	etcdLogLevel    = "error"
	etcdLoopbackURL = "http://127.0.0.1:%d"
)

type etcdServer struct {
	url  string
	stop func()
}

// startEtcd serves the store of the folder. Nothing is synced to disk: a killed process loses nothing (the page cache is the
// kernel's), only a machine that loses its power would, and a rig may.
func startEtcd(o Options) etcdServer {
	loopback := func(port int) url.URL {
		u, err := url.Parse(fmt.Sprintf(etcdLoopbackURL, port))
		must(err)
		return *u
	}
	client, peer := loopback(o.EtcdPort), loopback(o.PeerPort)
	c := embed.NewConfig()
	c.Name, c.Dir, c.LogLevel = etcdMemberName, filepath.Join(o.Dir, "etcd"), etcdLogLevel
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.QuotaBackendBytes = etcdQuotaBytes
	c.MaxTxnOps = etcdMaxTxnOps
	c.UnsafeNoFsync = true
	e, err := embed.StartEtcd(c)
	must(err)
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		must(err)
	case <-time.After(etcdStartLimit):
		must(fmt.Errorf("etcd was not ready after %s", etcdStartLimit))
	}
	return etcdServer{url: client.String(), stop: e.Server.HardStop}
}
