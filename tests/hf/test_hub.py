"""To and from the hub, with a local server that responds like the hub; and the examples of its page."""

from __future__ import annotations

import io
import json
import socket
import threading
from http.server import ThreadingHTTPServer

import huggingface_hub
import numpy as np
import pytest
import torch
from hub_server import COMMIT, Hub
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError
from huggingface_small import CLASSES, CONFIG, IMAGES, filled
from PIL import Image
from safetensors.torch import load_file, save_file

from efficientformer_edu import hf, load, save
from efficientformer_edu.hf import auto
from efficientformer_edu.hf import hub as hf_hub
from efficientformer_edu.weights.conversion import to_layout

# huggingface_hub sends bytes in a way that its HTTP library, httpx, deprecates.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning"),
]

BASE, SINGLE_HEAD, TWO_HEADS = CLASSES
PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))


def only_here(getaddrinfo):
    """Only local addresses: a test that connects to another address fails immediately."""

    def local(host, *arguments, **options):
        assert host in ("127.0.0.1", b"127.0.0.1"), f"{host} is asked for"
        return getaddrinfo(host, *arguments, **options)

    return local


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The server's class, with its files; huggingface_hub connects only to it."""
    handler = type("Local", (Hub,), {"repositories": {}, "blobs": {}, "commits": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    handler.url = f"http://127.0.0.1:{server.server_port}"
    constants = huggingface_hub.constants
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, handler.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", handler.url)  # both as HF_ENDPOINT would set them before the import
    monkeypatch.setattr(socket, "getaddrinfo", only_here(socket.getaddrinfo))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    huggingface_hub.utils.disable_progress_bars()
    yield handler
    server.shutdown()
    server.server_close()


@pytest.fixture(params=CLASSES)
def model(request, make_network):
    return filled(request.param(CONFIG), make_network)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def published(make_network, tmp_path, config=CONFIG):
    """The files of a repository like snap-research's: two heads, a torch file, a processor."""
    two = filled(TWO_HEADS(config), make_network) if config is CONFIG else TWO_HEADS(config).eval()
    two.save_pretrained(folder := tmp_path / "published")
    (folder / "model.safetensors").unlink()
    save(two.network, folder / "pytorch_model.bin", layout="hf")
    hf.EfficientFormerImageProcessor(size={"shortest_edge": 72}, crop_size=64).save_pretrained(folder)
    return two, files_of(folder)


def test_a_folder_and_back(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == [type(model).__name__]
    assert config["distillation"] is (model.heads == 2)
    back = type(model).from_pretrained(tmp_path)
    assert not back.training
    assert back.config == model.config.replace(layer_norm_eps=1e-5)  # what the network computes with
    assert torch.equal(back(IMAGES)[0], model(IMAGES)[0])


def test_the_file_has_hugging_faces_names(model, tmp_path):
    model.save_pretrained(tmp_path)
    names = set(load_file(tmp_path / "model.safetensors"))
    if model.heads == 0:  # saved alone, the bare model has no prefix
        assert "patch_embed.convolution1.weight" in names
        assert not any(name.startswith(("efficientformer.", "classifier")) for name in names)
    else:
        network = model.network
        assert names == set(to_layout(network.state_dict(), network.config, "hf"))
        state = load(tmp_path / "model.safetensors")
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in state.items())


def test_a_state_dict_is_saved_instead_of_the_model_s(model, tmp_path):
    average = {name: value + 1 if value.is_floating_point() else value for name, value in model.state_dict().items()}
    other = type(model)(CONFIG)
    other.load_state_dict(average)
    other.save_pretrained(tmp_path / "expected")
    expected = (tmp_path / "expected/model.safetensors").read_bytes()
    wrapped = {f"module.{name}": value for name, value in average.items()} | {"n_averaged": torch.tensor(2)}
    for n, state_dict in enumerate((average, wrapped, load_file(tmp_path / "expected/model.safetensors"))):
        model.save_pretrained(folder := tmp_path / str(n), state_dict=state_dict)
        assert (folder / "model.safetensors").read_bytes() == expected


def test_a_state_dict_that_does_not_fit_is_refused_before_anything_is_written(model, tmp_path):
    state_dict = model.state_dict()
    del state_dict["network.norm.weight"]
    with pytest.raises(ValueError, match=r"missing.*norm\.weight"):
        model.save_pretrained(tmp_path / "new", state_dict=state_dict)
    assert not (tmp_path / "new").exists()


def test_other_processes_write_nothing(model, tmp_path):
    model.save_pretrained(tmp_path / "new", is_main_process=False)
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"safe_serialization": False}, "^safe_serialization=False.*True"),
        ({"variant": "fp16"}, "^variant='fp16'.*None"),
        ({"config": CONFIG}, "^config=.*None"),
        ({"max_shard_size": 1000}, "^max_shard_size=1000.*at least"),
        ({"max_shard_size": "1KB"}, "^max_shard_size='1KB'.*at least"),
        ({"safe_serialisation": True}, "'safe_serialisation'.*'safe_serialization'"),
        ({"max_shard_sise": "5GB"}, "'max_shard_sise'.*'max_shard_size'"),
        ({"repo_id": "me/l0"}, "^repo_id .*push_to_hub=True"),
        ({"token": "hf_secret"}, "^token .*push_to_hub=True"),
        ({"push_to_hub": True, "commit_mesage": "Weights"}, "'commit_mesage'.*'commit_message'"),
        ({"push_to_hub": True, "state_dict": {}}, "^push_to_hub .*state_dict"),
    ],
)
def test_arguments_that_would_be_ignored_are_refused_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        SINGLE_HEAD(CONFIG).save_pretrained(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_arguments_with_the_values_that_transformers_gives_them(make_network, tmp_path):
    model = filled(SINGLE_HEAD(CONFIG), make_network)
    model.save_pretrained(
        tmp_path, is_main_process=True, state_dict=None, push_to_hub=False, max_shard_size="50GB",
        safe_serialization=True, variant=None,
    )  # fmt: skip
    assert torch.equal(SINGLE_HEAD.from_pretrained(tmp_path)(IMAGES).logits, model(IMAGES).logits)


def test_a_network_that_the_layout_cannot_hold(tmp_path):
    sizes = CONFIG.replace(hidden_sizes=(8, 8, 16, 24), downsamples=(False, True, True, True))
    with pytest.raises(ValueError, match="the hf layout cannot store embeddings"):
        SINGLE_HEAD(sizes).save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def test_from_the_hub(hub, make_network, tmp_path):
    two, hub.repositories["snap/l0"] = published(make_network, tmp_path)
    model = TWO_HEADS.from_pretrained("snap/l0", cache_dir=tmp_path / "mine")
    assert torch.equal(model(IMAGES).logits, two(IMAGES).logits)
    assert not model.training
    assert (tmp_path / "mine").is_dir()
    assert not (tmp_path / "cache").exists()
    again = TWO_HEADS.from_pretrained("snap/l0", cache_dir=tmp_path / "mine", local_files_only=True)
    assert torch.equal(again(IMAGES).logits, two(IMAGES).logits)
    processor = hf.EfficientFormerImageProcessor.from_pretrained("snap/l0", revision=COMMIT)
    assert processor.size == {"shortest_edge": 72}


@pytest.fixture
def silent_hub(hub, monkeypatch):
    """A hub that accepts connections and does not respond until the test ends, or for 20 seconds."""
    ended = threading.Event()
    monkeypatch.setattr(hub, "do_HEAD", lambda request: ended.wait(20))
    monkeypatch.setattr(hub, "do_GET", lambda request: ended.wait(20))
    monkeypatch.setattr(hf_hub, "TIMEOUT", 0.2)
    yield hub
    ended.set()


def test_a_hub_that_does_not_answer(hub, make_network, tmp_path, request):
    _, hub.repositories["snap/l0"] = published(make_network, tmp_path)
    two = TWO_HEADS.from_pretrained("snap/l0")
    hf.AutoImageProcessor.from_pretrained("snap/l0")
    request.getfixturevalue("silent_hub")
    with pytest.warns(UserWarning, match="hub cannot be reached.*cache"):
        assert torch.equal(TWO_HEADS.from_pretrained("snap/l0")(IMAGES).logits, two(IMAGES).logits)
    with pytest.warns(UserWarning, match="hub cannot be reached.*cache"):
        assert hf.AutoImageProcessor.from_pretrained("snap/l0").size == {"shortest_edge": 72}
    for load_model in (TWO_HEADS.from_pretrained, hf.AutoModelForImageClassification.from_pretrained):
        with pytest.warns(UserWarning, match="hub cannot be reached.*cache"), pytest.raises(LocalEntryNotFoundError):
            load_model("snap/other")


def test_an_address_that_does_not_answer(silent_hub, monkeypatch):
    monkeypatch.setattr(auto, "TIMEOUT", 0.2)
    with pytest.raises(TimeoutError, match="timed out"):
        auto.picture(f"{silent_hub.url}/cat.png")


def test_safetensors_are_preferred(hub, make_network, tmp_path):
    two, files = published(make_network, tmp_path)
    save(two.network, path := tmp_path / "model.safetensors", layout="hf")
    hub.repositories["snap/l0"] = files | {"model.safetensors": path.read_bytes(), "pytorch_model.bin": b"?"}
    assert torch.equal(TWO_HEADS.from_pretrained("snap/l0")(IMAGES).logits, two(IMAGES).logits)


def test_to_the_hub_and_back(hub, model):
    assert model.push_to_hub("me/l0", token="hf_secret", commit_message="Weights").oid == COMMIT
    assert hub.commits == [{"summary": "Weights", "description": "", "authorization": "Bearer hf_secret"}]
    files = hub.repositories["me/l0"]
    assert set(files) == {"config.json", "model.safetensors", "README.md"}
    assert b"arxiv.org/abs/2206.01191" in files["README.md"]
    back = type(model).from_pretrained("me/l0")
    assert torch.equal(back(IMAGES)[0], model(IMAGES)[0])


def test_a_processor_to_the_hub_and_back(hub):
    processor = hf.EfficientFormerImageProcessor(size=64)
    address = processor.push_to_hub("l0", token="hf_secret")
    assert address == f"{hub.url}/me/l0/commit/{COMMIT}"
    assert set(hub.repositories["me/l0"]) == {"preprocessor_config.json"}
    assert hf.AutoImageProcessor.from_pretrained("me/l0").to_dict() == processor.to_dict()


def test_saving_can_push(hub, make_network, tmp_path):
    model = filled(SINGLE_HEAD(CONFIG), make_network)
    model.save_pretrained(tmp_path / "l0", push_to_hub=True, repo_id="me/l0", token="hf_secret")
    assert hub.repositories["me/l0"]["config.json"] == (tmp_path / "l0/config.json").read_bytes()


def test_what_is_not_there(hub, make_network, tmp_path):
    with pytest.raises(RepositoryNotFoundError):
        BASE.from_pretrained("snap/none")
    _, files = published(make_network, tmp_path)
    hub.repositories["snap/empty"] = {"config.json": files["config.json"]}
    with pytest.raises(EntryNotFoundError, match="pytorch_model.bin"):
        BASE.from_pretrained("snap/empty")
    hub.repositories["snap/bare"] = {"pytorch_model.bin": files["pytorch_model.bin"]}
    with pytest.raises(ValueError, match=r"snap/bare has no config.json"):
        BASE.from_pretrained("snap/bare")
    assert BASE.from_pretrained("snap/bare", config=CONFIG).config == CONFIG
    with pytest.raises(FileNotFoundError, match=r"the folder has no model.safetensors or pytorch_model.bin"):
        BASE.from_pretrained(tmp_path)


def test_the_file_of_two_heads_in_the_other_classes(make_network, tmp_path):
    two, _ = published(make_network, tmp_path)
    base = BASE.from_pretrained(tmp_path / "published")
    assert torch.equal(base(IMAGES).last_hidden_state.mean(1), two.network.extract_feat(IMAGES)[0])
    with pytest.warns(UserWarning, match="has one head, so distillation_classifier is not loaded"):
        single = SINGLE_HEAD.from_pretrained(tmp_path / "published")
    assert torch.equal(single(IMAGES).logits, two(IMAGES).cls_logits)


def test_fewer_heads_in_the_file_are_random(make_network, tmp_path):
    base, single = (filled(kind(CONFIG), make_network) for kind in (BASE, SINGLE_HEAD))
    base.save_pretrained(tmp_path / "base")
    single.save_pretrained(tmp_path / "one")
    with pytest.warns(UserWarning, match="gives 0 of 1 heads; missing heads are random"):
        model = SINGLE_HEAD.from_pretrained(tmp_path / "base")
    assert torch.equal(model.network.extract_feat(IMAGES)[0], base(IMAGES).last_hidden_state.mean(1))
    with pytest.warns(UserWarning, match="gives 1 of 2 heads; missing heads are random"):
        two = TWO_HEADS.from_pretrained(tmp_path / "one")
    assert torch.equal(two(IMAGES).cls_logits, single(IMAGES).logits)
    assert not torch.equal(two(IMAGES).cls_logits, two(IMAGES).distillation_logits)


def test_fine_tuning_for_other_labels(make_network, tmp_path):
    two, _ = published(make_network, tmp_path)
    folder = tmp_path / "published"
    with (
        pytest.warns(UserWarning, match="is not loaded"),
        pytest.raises(ValueError, match="pytorch_model.bin: .*classifier.weight .* instead of"),
    ):
        SINGLE_HEAD.from_pretrained(folder, num_labels=2)
    with pytest.warns(UserWarning, match="gives 0 of 1 heads; missing heads are random"):
        model = SINGLE_HEAD.from_pretrained(folder, id2label={0: "cat", 1: "dog"}, ignore_mismatched_sizes=True)
    assert model(IMAGES).logits.shape == (2, 2)
    assert model.config.label2id == {"cat": 0, "dog": 1}
    assert torch.equal(model.network.extract_feat(IMAGES)[0], two.network.extract_feat(IMAGES)[0])


def test_fields_and_types(make_network, tmp_path):
    two, _ = published(make_network, tmp_path)
    folder = tmp_path / "published"
    model = TWO_HEADS.from_pretrained(folder, drop_path_rate=0.1, output_attentions=True)
    assert model.network.config.drop_path_rate == 0.1
    assert "attentions" in model(IMAGES)
    for dtype in ("float64", torch.float64):
        assert TWO_HEADS.from_pretrained(folder, dtype=dtype).network.head.weight.dtype == torch.float64
    save(two.network.half(), folder / "pytorch_model.bin", layout="hf")
    assert TWO_HEADS.from_pretrained(folder, dtype="auto").network.head.weight.dtype == torch.float16
    assert TWO_HEADS.from_pretrained(folder).network.head.weight.dtype == torch.float32
    with pytest.raises(ValueError, match="dtype='float33' is not possible"):
        TWO_HEADS.from_pretrained(folder, dtype="float33")
    with pytest.raises(ValueError, match="Did you mean 'drop_path_rate'"):
        TWO_HEADS.from_pretrained(folder, drop_path_rat=0.1)


def test_a_file_that_does_not_fit(make_network, tmp_path):
    published(make_network, tmp_path)
    tensors = {"efficientformer.patch_embed.convolution1.weight": torch.zeros(2)}
    save_file(tensors, tmp_path / "published/model.safetensors")
    with pytest.raises(ValueError, match=r"model.safetensors: the names do not match any layout"):
        TWO_HEADS.from_pretrained(tmp_path / "published")


@pytest.mark.parametrize("model", [SINGLE_HEAD, TWO_HEADS], indirect=True)
def test_the_class_is_determined_by_the_file(model, hub):
    model.push_to_hub("me/l0", token="hf_secret")
    back = hf.AutoModelForImageClassification.from_pretrained("me/l0", revision=COMMIT)
    assert type(back) is type(model)
    assert torch.equal(back(IMAGES).logits, model(IMAGES).logits)


def test_pipeline(make_network, tmp_path):
    names = dict(enumerate(["ant", "bee", "cat", "dog", "eel"]))
    two = filled(TWO_HEADS(CONFIG), make_network)
    two.config = CONFIG.replace(id2label=names)
    classify = hf.pipeline("image-classification", model=two)
    predictions = classify(PHOTO)
    logits = two(hf.EfficientFormerImageProcessor()(PHOTO, return_tensors="pt").pixel_values).logits[0]
    assert [prediction["label"] for prediction in predictions] == [
        names[int(n)] for n in logits.argsort(descending=True)
    ]
    assert sum(prediction["score"] for prediction in predictions) == pytest.approx(1)
    PHOTO.save(path := tmp_path / "photo.png")
    assert classify([str(path), path], top_k=2) == [predictions[:2]] * 2
    two.config = two.config.replace(problem_type="multi_label_classification")
    assert classify(PHOTO, top_k=1)[0]["score"] == pytest.approx(logits.max().sigmoid().item())
    with pytest.raises(ValueError, match="task='translation' is not possible"):
        hf.pipeline("translation")


def test_common_arguments_of_pipelines(make_network, tmp_path):
    two = filled(TWO_HEADS(CONFIG), make_network)
    two.save_pretrained(tmp_path)
    hf.AutoImageProcessor().save_pretrained(tmp_path)
    classify = hf.pipeline(model=tmp_path, device=-1)
    scores = classify(PHOTO, top_k=None)
    assert len(scores) == CONFIG.num_labels
    assert classify(PHOTO, top_k=2) == scores[:2]
    assert classify(np.asarray(PHOTO), top_k=None) == scores
    assert classify([PHOTO, np.asarray(PHOTO)], top_k=None) == [scores] * 2
    assert classify.model.device == torch.device("cpu")
    assert hf.pipeline(model=two, device="meta").model.device == torch.device("meta")
    for name in ("dtype", "torch_dtype"):
        model = hf.pipeline(model=tmp_path, **{name: torch.bfloat16}).model
        assert model.dtype == model.network.head.weight.dtype == torch.bfloat16
        assert TWO_HEADS.from_pretrained(tmp_path, **{name: "float64"}).dtype == torch.float64
        with pytest.raises(ValueError, match=r"model\.to\(dtype\)"):
            hf.pipeline(model=two, **{name: torch.bfloat16})


# The page of transformers' EfficientFormer and its docstrings, except for the addresses of model and image.
EXAMPLES = {
    "configuration": """
from transformers import EfficientFormerConfig, EfficientFormerModel
configuration = EfficientFormerConfig()
model = EfficientFormerModel(configuration)
configuration = model.config
assert configuration.hidden_sizes[-1] == 448
""",
    "pipeline": """
from transformers import pipeline
pipeline = pipeline(task="image-classification", model="snap-research/efficientformer-l1-300", dtype="auto")
assert len(pipeline(url)) == 5
""",
    "auto": """
from transformers import AutoImageProcessor, AutoModelForImageClassification
image_processor = AutoImageProcessor.from_pretrained("snap-research/efficientformer-l1-300")
model = AutoModelForImageClassification.from_pretrained("snap-research/efficientformer-l1-300", dtype="auto")
inputs = image_processor(image, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits
predicted_label = logits.argmax(-1).item()
assert model.config.id2label[predicted_label] == f"LABEL_{predicted_label}"
""",
    "model": """
from transformers import AutoImageProcessor, EfficientFormerModel
image_processor = AutoImageProcessor.from_pretrained("snap-research/efficientformer-l1-300")
model = EfficientFormerModel.from_pretrained("snap-research/efficientformer-l1-300")
inputs = image_processor(image, return_tensors="pt")
with torch.no_grad():
    outputs = model(**inputs)
last_hidden_states = outputs.last_hidden_state
assert list(last_hidden_states.shape) == [1, 49, 448]
""",
    "one head": """
from transformers import AutoImageProcessor, EfficientFormerForImageClassification
image_processor = AutoImageProcessor.from_pretrained("snap-research/efficientformer-l1-300")
model = EfficientFormerForImageClassification.from_pretrained("snap-research/efficientformer-l1-300")
inputs = image_processor(image, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits
predicted_label = logits.argmax(-1).item()
assert model.config.id2label[predicted_label] == f"LABEL_{predicted_label}"
""",
    "two heads": """
from transformers import AutoImageProcessor, EfficientFormerForImageClassificationWithTeacher
image_processor = AutoImageProcessor.from_pretrained("snap-research/efficientformer-l1-300")
model = EfficientFormerForImageClassificationWithTeacher.from_pretrained("snap-research/efficientformer-l1-300")
inputs = image_processor(image, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits
predicted_label = logits.argmax(-1).item()
assert model.config.id2label[predicted_label] == f"LABEL_{predicted_label}"
""",
}


@pytest.fixture(scope="module")
def l1(tmp_path_factory):
    """The files of snap-research/efficientformer-l1-300, with random weights."""
    TWO_HEADS(hf.EfficientFormerConfig(num_labels=1000)).save_pretrained(folder := tmp_path_factory.mktemp("l1"))
    hf.EfficientFormerImageProcessor(size={"shortest_edge": 256}).save_pretrained(folder)
    return files_of(folder)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.filterwarnings("ignore:.*has one head, so distillation_classifier is not loaded:UserWarning")
def test_the_examples_of_the_page_run_after_changing_only_the_import(name, hub, l1):
    hub.repositories["snap-research/efficientformer-l1-300"] = l1
    PHOTO.save(picture := io.BytesIO(), "png")
    hub.repositories["some/pictures"] = {"cat.png": picture.getvalue()}
    example = EXAMPLES[name].replace("from transformers import", f"from {hf.__name__} import")
    exec(example, {"torch": torch, "image": PHOTO, "url": f"{hub.url}/some/pictures/resolve/main/cat.png"})
