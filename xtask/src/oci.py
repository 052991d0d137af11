"""Writes the filter module as an OCI image layout, and reads it back as Istio does.

usage: oci.py MODULE LAYOUT VERSION

The layout holds two images of the same module, since registries and tools differ in what they take:

VERSION           the compatible variant: an image with one layer, a tar archive with `plugin.wasm`
VERSION-artifact  the artifact: a layer with the configuration and one with the module as it is

The same module gives the same bytes each time: no clock, no names of users.
"""

import gzip
import hashlib
import io
import json
import pathlib
import shutil
import sys
import tarfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
WASM_CONFIG = "application/vnd.module.wasm.config.v1+json"
WASM_LAYER = "application/vnd.module.wasm.content.layer.v1+wasm"
REF = "org.opencontainers.image.ref.name"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def dump(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


class Layout:
    def __init__(self, folder):
        self.folder = folder
        (folder / "blobs/sha256").mkdir(parents=True)
        self.images = []

    def blob(self, media_type, data, **more):
        name = digest(data)
        (self.folder / "blobs" / name.replace(":", "/")).write_bytes(data)
        return {"mediaType": media_type, "digest": name, "size": len(data), **more}

    def image(self, ref, config, layers, version):
        labels = {"org.opencontainers.image.title": "ingress-wasm", "org.opencontainers.image.version": version,
                  "org.opencontainers.image.licenses": "Apache-2.0"}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
                    "annotations": labels}
        self.images.append(self.blob(MANIFEST, dump(manifest), annotations={REF: ref}))

    def close(self):
        (self.folder / "oci-layout").write_bytes(dump({"imageLayoutVersion": "1.0.0"}))
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": self.images}
        (self.folder / "index.json").write_bytes(dump(index))


def write(module, folder, version):
    layout = Layout(folder)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo("plugin.wasm")
        entry.size, entry.mode = len(module), 0o644
        tar.addfile(entry, io.BytesIO(module))
    archive = archive.getvalue()
    config = {"architecture": "wasm", "os": "wasip1", "config": {},
              "rootfs": {"type": "layers", "diff_ids": [digest(archive)]},
              "history": [{"created_by": "cargo xtask oci"}]}
    layout.image(version, layout.blob(IMAGE_CONFIG, dump(config)),
                 [layout.blob(LAYER, gzip.compress(archive, 9, mtime=0))], version)
    about = dump({"name": "ingress-wasm", "version": version, "type": "envoy_proxy", "root_ids": ["ingress-wasm"]})
    layout.image(version + "-artifact", layout.blob(WASM_CONFIG, about),
                 [layout.blob(WASM_CONFIG, about),
                  layout.blob(WASM_LAYER, module, annotations={"org.opencontainers.image.title": "plugin.wasm"})],
                 version)
    layout.close()


def read(folder, description):
    """A blob, if digest and size are right."""
    algorithm, name = description["digest"].split(":")
    data = (folder / "blobs" / algorithm / name).read_bytes()
    assert digest(data) == description["digest"], f"{description['digest']} has another content"
    assert len(data) == description["size"], f"{description['digest']} has {len(data)} bytes"
    return data


def pull(folder, description):
    """The module in an image, by the rules of Istio's fetcher: the last layer as an archive, else two layers of
    which one has the media type of a module."""
    assert description["mediaType"] == MANIFEST, description
    manifest = json.loads(read(folder, description))
    assert manifest["schemaVersion"] == 2 and manifest["mediaType"] == MANIFEST, manifest
    config = json.loads(read(folder, manifest["config"]))
    layers = manifest["layers"]
    if layers[-1]["mediaType"] == LAYER:
        assert manifest["config"]["mediaType"] == IMAGE_CONFIG, manifest
        archive = gzip.decompress(read(folder, layers[-1]))
        assert config["rootfs"]["diff_ids"] == [digest(archive)], config
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            names = tar.getnames()
            assert names == ["plugin.wasm"], names
            return tar.extractfile("plugin.wasm").read()
    assert len(layers) == 2, layers
    (layer,) = [layer for layer in layers if layer["mediaType"] == WASM_LAYER]
    return read(folder, layer)


def check(folder, module, version):
    assert json.loads((folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((folder / "index.json").read_text())
    refs = [image["annotations"][REF] for image in index["manifests"]]
    assert refs == [version, version + "-artifact"], refs
    for ref, image in zip(refs, index["manifests"]):
        assert pull(folder, image) == module, f"{ref} holds another module"
        print(f"  {ref}  {image['digest']}")
    # Every blob is one that its name tells, and none is there for nothing.
    named = set()
    for image in index["manifests"]:
        manifest = json.loads(read(folder, image))
        named |= {image["digest"], manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])}
    held = {"sha256:" + file.name for file in (folder / "blobs/sha256").iterdir()}
    assert named == held, named ^ held


def damaged(folder, module, version):
    """The check has to find a layout that is not whole."""
    index = json.loads((folder / "index.json").read_text())
    for image in index["manifests"]:
        file = folder / "blobs" / json.loads(read(folder, image))["layers"][-1]["digest"].replace(":", "/")
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        try:
            pull(folder, image)
        except AssertionError:
            pass
        else:
            raise AssertionError("a damaged layer was not noticed")
        finally:
            file.write_bytes(whole)


def load(path):
    """The module in a file; ends with a word where it holds none."""
    try:
        module = pathlib.Path(path).read_bytes()
    except OSError as error:
        sys.exit(f"error: {path}: {error.strerror}")
    if module[:8] == b"\0asm\x0d\0\1\0":
        sys.exit(f"error: {path} is a WebAssembly component: a gateway loads modules")
    if module[:8] != b"\0asm\1\0\0\0":
        sys.exit(f"error: {path} is no WebAssembly module of version 1: `cargo xtask oci` without --module builds one")
    return module


def main():
    module, folder, version = load(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    write(module, unfinished, version)
    damaged(unfinished, module, version)
    check(unfinished, module, version)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


main()
