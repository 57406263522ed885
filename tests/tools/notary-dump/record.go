// Stores one small repository through the reference's own code into the database that it is told of: its server's
// handlers over its SQL storage, its signer's key store, and its client for publishing.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	_ "github.com/lib/pq"
	_ "github.com/mattn/go-sqlite3"
	_ "github.com/go-sql-driver/mysql"

	ctxu "github.com/docker/distribution/context"
	jose "github.com/dvsekhvalnov/jose2go"
	"github.com/jinzhu/gorm"
	"github.com/sirupsen/logrus"
	"github.com/theupdateframework/notary"
	"github.com/theupdateframework/notary/client"
	"github.com/theupdateframework/notary/passphrase"
	"github.com/theupdateframework/notary/server"
	"github.com/theupdateframework/notary/server/storage"
	"github.com/theupdateframework/notary/signer/keydbstore"
	"github.com/theupdateframework/notary/trustpinning"
	"github.com/theupdateframework/notary/tuf/data"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	if os.Args[1] == "jwe" {
		text, err := jose.Encrypt("the content of an example", jose.PBES2_HS256_A128KW, jose.A256GCM, os.Args[2])
		must(err)
		fmt.Println(text)
		return
	}
	dialect, serverDSN, signerDSN, algorithm, secret := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	var quiet bytes.Buffer
	logger := logrus.New()
	logger.Out = &quiet
	logrus.SetOutput(io.Discard)

	store, err := storage.NewSQLStorage(dialect, serverDSN)
	must(err)
	retriever := func(string, string, bool, int) (string, bool, error) { return secret, false, nil }
	keys, err := keydbstore.NewSQLKeyDBStore(retriever, "timestamp_1", dialect, signerDSN)
	must(err)
	if dialect == "sqlite3" {
		must(storage.CreateTUFTable(store.DB))
		must(storage.CreateChangefeedTable(store.DB))
		db, err := gorm.Open(dialect, signerDSN)
		must(err)
		must(db.CreateTable(&keydbstore.GormPrivateKey{}).Error)
	}
	ctx := context.WithValue(context.Background(), notary.CtxKeyMetaStore, storage.NewTUFMetaStorage(store))
	ctx = context.WithValue(ctx, notary.CtxKeyKeyAlgo, algorithm)
	ctx = ctxu.WithLogger(ctx, logrus.NewEntry(logger))
	peer := httptest.NewServer(server.RootHandler(ctx, nil, signer{keys}, nil, nil, nil))
	defer peer.Close()

	for _, name := range os.Args[6:] {
		publish(peer.URL, data.GUN(name), strings.HasSuffix(name, "/gone"))
	}
}

// The signer's key store. Between server and signer there is a connection, over which only public keys go; here it is
// this.
type signer struct{ *keydbstore.SQLKeyDBStore }

func (s signer) Create(role data.RoleName, gun data.GUN, algorithm string) (data.PublicKey, error) {
	key, err := s.SQLKeyDBStore.Create(role, gun, algorithm)
	if err != nil {
		return nil, err
	}
	return data.NewPublicKey(key.Algorithm(), key.Public()), nil
}

func publish(url string, gun data.GUN, remove bool) {
	home, err := os.MkdirTemp("", "notary")
	must(err)
	defer os.RemoveAll(home)
	repository, err := client.NewFileCachedRepository(home, gun, url, http.DefaultTransport,
		passphrase.ConstantRetriever("correct horse"), trustpinning.TrustPinConfig{})
	must(err)
	root, err := repository.GetCryptoService().Create(data.CanonicalRootRole, "", data.ECDSAKey)
	must(err)
	must(repository.Initialize([]string{root.ID()}, data.CanonicalSnapshotRole))
	for _, tag := range []string{"1.0", "it's \\ new"} {
		target := &client.Target{Name: tag, Length: 42,
			Hashes: data.Hashes{"sha256": bytes.Repeat([]byte{byte(len(tag))}, 32)}}
		must(repository.AddTarget(target, data.CanonicalTargetsRole))
		must(repository.Publish())
	}
	alice, err := repository.GetCryptoService().Create("targets/alice", gun, data.ECDSAKey)
	must(err)
	must(repository.AddDelegation("targets/alice", []data.PublicKey{alice}, []string{""}))
	must(repository.Publish())
	must(repository.AddTarget(&client.Target{Name: "2.0", Length: 43,
		Hashes: data.Hashes{"sha256": bytes.Repeat([]byte{9}, 32)}}, "targets/alice"))
	must(repository.Publish())
	if remove {
		must(client.DeleteTrustData(home, gun, url, http.DefaultTransport, true))
	}
}
