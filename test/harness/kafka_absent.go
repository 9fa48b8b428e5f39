package harness

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// absentBroker is the id of the broker that AddAbsent registers.
const absentBroker = 2

// AddAbsent registers a second broker that never comes up. Topics made with MakeOnAbsent have a replica there.
func (s *KafkaProcess) AddAbsent(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, s.addAbsent(ctx))
}

func (s *KafkaProcess) addAbsent(ctx context.Context) error {
	req := kmsg.NewPtrBrokerRegistrationRequest()
	req.BrokerID, req.PreviousBrokerEpoch = absentBroker, -1
	rand.Read(req.IncarnationID[:])
	req.LogDirs = make([][16]byte, 1)
	rand.Read(req.LogDirs[0][:])
	listener := kmsg.NewBrokerRegistrationRequestListener()
	listener.Name, listener.Host, listener.Port = "PLAINTEXT", "127.0.0.1", 1
	req.Listeners = append(req.Listeners, listener)
	if err := s.likeThis(ctx, req); err != nil {
		return err
	}
	controller, err := kgo.NewClient(kgo.SeedBrokers(s.controller))
	if err != nil {
		return err
	}
	defer controller.Close()
	raw, err := controller.SeedBrokers()[0].Request(ctx, req)
	if err == nil {
		err = kerr.ErrorForCode(raw.(*kmsg.BrokerRegistrationResponse).ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("register broker %d: %w", absentBroker, err)
	}
	return nil
}

// likeThis has a broker belong to the cluster and know what the one that runs knows.
func (s *KafkaProcess) likeThis(ctx context.Context, req *kmsg.BrokerRegistrationRequest) error {
	cl, err := s.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	meta, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, cl)
	if err != nil || meta.ClusterID == nil {
		return fmt.Errorf("ask Kafka who it is: %w", err)
	}
	req.ClusterID = *meta.ClusterID
	able, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("ask Kafka what it knows: %w", err)
	}
	for _, known := range able.SupportedFeatures {
		f := kmsg.NewBrokerRegistrationRequestFeature()
		f.Name, f.MinSupportedVersion, f.MaxSupportedVersion = known.Name, known.MinVersion, known.MaxVersion
		req.Features = append(req.Features, f)
	}
	return nil
}

// MakeOnAbsent makes a topic whose partitions have a replica on the running broker, in sync, and one on the absent broker, which is
// not: a min.insync.replicas of 2 is one too many for it. settings are name, value pairs. It is not deleted at the end of the test.
func (s *KafkaProcess) MakeOnAbsent(t testing.TB, topic string, partitions int, settings ...string) {
	t.Helper()
	req, rt := kmsg.NewPtrCreateTopicsRequest(), kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, -1, -1
	for p := range partitions {
		at := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		at.Partition, at.Replicas = int32(p), []int32{1, absentBroker}
		rt.ReplicaAssignment = append(rt.ReplicaAssignment, at)
	}
	for i := 0; i+1 < len(settings); i += 2 {
		config := kmsg.NewCreateTopicsRequestTopicConfig()
		config.Name, config.Value = settings[i], &settings[i+1]
		rt.Configs = append(rt.Configs, config)
	}
	req.Topics = append(req.Topics, rt)
	cl := s.Client(t)
	defer cl.Close()
	resp, err := req.RequestWith(t.Context(), cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("make topic %s: %v", topic, err)
	}
}
