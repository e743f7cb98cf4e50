package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"sigs.k8s.io/yaml"
)

const service = "clusterautoscaler.cloudprovider.v1.externalgrpc.CloudProvider"

type cloudConfig struct {
	Address string `json:"address"`
	Key     string `json:"key"`
	Cert    string `json:"cert"`
	Cacert  string `json:"cacert"`
}

func connection(file string) (*grpc.ClientConn, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var config cloudConfig
	if err := yaml.Unmarshal(text, &config); err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(config.Address)
	if err != nil {
		return nil, err
	}
	own, err := tls.LoadX509KeyPair(config.Cert, config.Key)
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(config.Cacert)
	if err != nil {
		return nil, err
	}
	believed := x509.NewCertPool()
	if !believed.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s holds no certificate", config.Cacert)
	}
	secured := credentials.NewTLS(&tls.Config{ServerName: host, Certificates: []tls.Certificate{own}, RootCAs: believed})
	return grpc.NewClient(config.Address, grpc.WithTransportCredentials(secured))
}

func methodOf(descriptors, name string) (protoreflect.MethodDescriptor, error) {
	raw, err := os.ReadFile(descriptors)
	if err != nil {
		return nil, err
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(raw, &set); err != nil {
		return nil, err
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return nil, err
	}
	found, err := files.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil, err
	}
	method := found.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(name))
	if method == nil {
		return nil, fmt.Errorf("the protocol has no method %s", name)
	}
	return method, nil
}

// One call of the externalgrpc protocol; the answer as JSON, or an error with the gRPC status.
func call(ctx context.Context, arguments []string) (any, error) {
	client, err := connection(arguments[0])
	if err != nil {
		return nil, err
	}
	defer client.Close()
	method, err := methodOf(arguments[1], arguments[2])
	if err != nil {
		return nil, err
	}
	asked, answered := dynamicpb.NewMessage(method.Input()), dynamicpb.NewMessage(method.Output())
	if err := protojson.Unmarshal([]byte(arguments[3]), asked); err != nil {
		return nil, err
	}
	if err := client.Invoke(ctx, "/"+service+"/"+arguments[2], asked, answered); err != nil {
		return nil, err
	}
	text, err := protojson.Marshal(answered)
	return json.RawMessage(text), err
}
