// Command gotuf is go-tuf as a filter: a job is a line of JSON on standard input, its result a line on standard output.
//
// The fields of both are described in testing/tufline_testing/clients/running.py. With the arguments "serve DIRECTORY" it is Go's own file server,
// which prints its address. With the build tag "oldest" and oldest.mod it is the oldest supported go-tuf.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"
)

// A line may hold a job of many paths.
const maxLineBytes = 64 << 20

type job struct {
	MetadataURL string   `json:"metadata_url"`
	TargetsURL  string   `json:"targets_url"`
	Root        string   `json:"root"`
	Directory   string   `json:"directory"`
	Paths       []string `json:"paths"`
	PrefixHash  bool     `json:"prefix_hash"`
	Timeout     float64  `json:"timeout"`
}

type file struct {
	Path   string `json:"path"`
	Found  bool   `json:"found"`
	Sha256 string `json:"sha256,omitempty"`
	Error  string `json:"error,omitempty"`
}

type result struct {
	Files []file `json:"files"`
	Error string `json:"error,omitempty"`
}

func open(asked job) (*updater.Updater, error) {
	trusted := filepath.Join(asked.Directory, "root.json")
	root, err := os.ReadFile(trusted)
	if os.IsNotExist(err) {
		root, err = os.ReadFile(asked.Root)
	}
	if err != nil {
		return nil, err
	}
	settings, err := config.New(asked.MetadataURL, root)
	if err != nil {
		return nil, err
	}
	settings.LocalMetadataDir = asked.Directory
	settings.LocalTargetsDir = asked.Directory
	settings.RemoteTargetsURL = asked.TargetsURL
	settings.PrefixTargetsWithHash = asked.PrefixHash
	if err := limit(settings, time.Duration(asked.Timeout*float64(time.Second))); err != nil {
		return nil, err
	}
	opened, err := updater.New(settings)
	if err != nil {
		return nil, err
	}
	return opened, opened.Refresh()
}

func download(client *updater.Updater, directory string, path string) file {
	info, err := client.GetTargetInfo(path)
	if err != nil {
		// go-tuf has no type of error for a target that no role lists.
		if err.Error() == fmt.Sprintf("target %s not found", path) {
			return file{Path: path}
		}
		return file{Path: path, Error: err.Error()}
	}
	_, content, err := client.DownloadTarget(info, filepath.Join(directory, "downloaded"), "")
	if err != nil {
		return file{Path: path, Found: true, Error: err.Error()}
	}
	digest := sha256.Sum256(content)
	return file{Path: path, Found: true, Sha256: hex.EncodeToString(digest[:])}
}

func run(asked job) result {
	client, err := open(asked)
	if err != nil {
		return result{Error: err.Error()}
	}
	files := make([]file, 0, len(asked.Paths))
	for _, path := range asked.Paths {
		files = append(files, download(client, asked.Directory, path))
	}
	return result{Files: files}
}

func serve(directory string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", listener.Addr())
	return http.Serve(listener, http.FileServer(http.Dir(directory)))
}

func main() {
	log.SetFlags(0)
	if len(os.Args) == 3 && os.Args[1] == "serve" {
		log.Fatal(serve(os.Args[2]))
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, maxLineBytes)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked job
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			log.Fatal(err)
		}
		if err := answers.Encode(run(asked)); err != nil {
			log.Fatal(err)
		}
	}
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
}
