package boot

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	adminUser    = "admin"
	mastersGroup = "system:masters"
	// fleetwakeNamespace is where the services' accounts, Leases and Secrets live, as in an installation.
	fleetwakeNamespace = "fleetwake-system"
	accountPrefix      = "fleetwake-"
)

// services are the parts of fleetwake that speak to the API, each under an account of its own: the audit log tells them apart, and the
// rig gives each what an installation lets it do (deploy/k8s).
var services = []string{"watcher", "reconcilers", "remediation", "autoscaler-bridge", "dev-infrastructure", "prepare"}

// controllers of this process act under the accounts that kube-controller-manager gives them, so that RBAC's bootstrap policy
// covers them and the audit log names them as in a real control plane.
var controllers = []string{"generic-garbage-collector", "namespace-controller", "clusterrole-aggregation-controller"}

// auditPolicy records who did what to which object, with its Audit-ID, once a request is answered (a watch: once it is open).
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
`

// files names everything in the state folder.
type files struct{ dir, pki, tokens, auditPolicy, auditLog, ready string }

func newFiles(dir string) files {
	at := func(name string) string { return filepath.Join(dir, name) }
	return files{dir: dir, pki: at("pki"), tokens: at("pki/tokens.csv"), auditPolicy: at("audit-policy.yaml"), auditLog: at("audit.log"), ready: at("ready.json")}
}

func (f files) cert(name string) string      { return filepath.Join(f.pki, name+".crt") }
func (f files) key(name string) string       { return filepath.Join(f.pki, name+".key") }
func (f files) serviceAccountPublic() string { return filepath.Join(f.pki, "sa.pub") }

// account is a line of the token file.
type account struct {
	file, token, user string
	groups            []string
}

func serviceAccount(file, namespace, name string) account {
	return account{
		file: file, user: "system:serviceaccount:" + namespace + ":" + name,
		groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace},
	}
}

func accounts() []account {
	all := []account{{file: "kubeconfig", user: adminUser, groups: []string{mastersGroup}}}
	for _, service := range services {
		all = append(all, serviceAccount("kubeconfig-"+service, fleetwakeNamespace, accountPrefix+service))
	}
	for _, controller := range controllers {
		all = append(all, serviceAccount("pki/kubeconfig-"+controller, "kube-system", controller))
	}
	return all
}

// writeFiles makes keys and tokens on the first start and keeps them on every later one. The token file is written last: it is the
// sign that all of them exist.
func (s *Server) writeFiles() {
	f := s.files
	writeWhole(f.auditPolicy, []byte(auditPolicy))
	if _, err := os.Stat(f.tokens); err == nil {
		return
	}
	s.makePKI()
	var lines strings.Builder
	for _, a := range accounts() {
		a.token = newToken()
		fmt.Fprintf(&lines, "%s,%s,%s,\"%s\"\n", a.token, a.user, a.user, strings.Join(a.groups, ","))
		writeWhole(filepath.Join(f.dir, a.file), []byte(s.kubeconfig(a)))
	}
	writeWhole(f.tokens, []byte(lines.String()))
}

func newToken() string {
	raw := make([]byte, 16)
	_, err := rand.Read(raw)
	must(err)
	return hex.EncodeToString(raw)
}

// kubeconfig of an account. The admin's holds its client certificate (tools that manage clusters expect one), all others a token.
func (s *Server) kubeconfig(a account) string {
	inline := func(path string) string {
		body, err := os.ReadFile(path)
		must(err)
		return base64.StdEncoding.EncodeToString(body)
	}
	credentials := "token: " + a.token
	if a.user == adminUser {
		credentials = fmt.Sprintf("client-certificate-data: %s, client-key-data: %s", inline(s.files.cert("admin")), inline(s.files.key("admin")))
	}
	return fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: rig
clusters: [{name: rig, cluster: {server: "%s", certificate-authority-data: %s}}]
contexts: [{name: rig, context: {cluster: rig, user: "%s"}}]
users: [{name: "%s", user: {%s}}]
`, s.url, inline(s.files.cert("ca")), a.user, a.user, credentials)
}
