# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The Space: started by its one command, offline, and driven over the network of this machine, also in a browser."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

import audiolm_hf
from audiolm_hf import export_checkpoint, read_audio, write_audio
from tests.helpers_checkpoint import CLIP, ROOT, environment, run_python, tiny_model, tiny_processor
from tests.helpers_parallel import parallel_audiolm

gradio_client = pytest.importorskip("gradio_client")
SPACE = ROOT / "spaces" / "audio_continuation"
START_S, WAIT_S = 300, 60
KEEP_S = 12  # of the page whose files are deleted soon
DEMO_THAT_DELETES_SOON = f"""
import sys
import audiolm_hf.demo
audiolm_hf.demo.KEEP_S = {KEEP_S}
from audiolm_hf.cli import main
sys.exit(main(["demo", *sys.argv[1:]]))
"""
PHONE, DESKTOP = (390, 844), (1280, 900)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_open(process: subprocess.Popen, port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"app.py ended with {process.returncode}:\n{log.read_text()}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"app.py did not listen within {START_S} s:\n{log.read_text()}")


def save_checkpoints(home: Path) -> list[Path]:
    """A checkpoint with both acoustic modes and a detector that calls everything generated, and one with neither."""
    both = export_checkpoint(parallel_audiolm(), tiny_processor(), home / "both", with_code=False)
    config = audiolm_hf.AudioLMDetectorConfig()
    detector = audiolm_hf.AudioLMDetectorForAudioClassification(config)
    detector.classifier.weight.data.zero_()
    detector.classifier.bias.data[0] = 5.0
    export_checkpoint(detector, None, both / "detector", with_code=False)
    return [both, export_checkpoint(tiny_model(), tiny_processor(), home / "one", with_code=False)]


@contextlib.contextmanager
def serve(home: Path, checkpoints: list[Path], program=(str(SPACE / "app.py"),)):
    """Run app.py in `home/work`, with nothing of its own elsewhere; yields its address, and ends it like a Space."""
    for name in ("work", "tmp", "user"):
        (home / name).mkdir()
    port, log = free_port(), home / "log.txt"
    command = [sys.executable, *program, "--port", str(port), "--checkpoint", *map(str, checkpoints)]
    variables = environment(home / "hub", TMPDIR=str(home / "tmp"), HOME=str(home / "user"))
    variables.pop("GRADIO_TEMP_DIR", None)
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=home / "work", env=variables, stdout=file, stderr=subprocess.STDOUT)
        try:
            wait_until_open(process, port, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(WAIT_S)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory):
    home = tmp_path_factory.mktemp("space")
    checkpoints = save_checkpoints(home)
    with serve(home, checkpoints) as url:
        yield SimpleNamespace(url=url, home=home, both=checkpoints[0], one=checkpoints[1])
    assert [*(home / "tmp").iterdir()] == [], "uploads and results are left after SIGTERM"


def files_in(folder) -> list[Path]:
    ours = (path for path in Path(folder).rglob("*") if path.name != "_remote_module_non_scriptable.py")  # torch 2.6
    return [path for path in ours if path.is_file()]


def connect(space):
    downloads = space.home / "downloads"
    return gradio_client.Client(space.url, verbose=False, download_files=str(downloads))


@pytest.fixture(scope="module")
def client(space):
    client = connect(space)
    yield client
    client.close()


def test_the_endpoint_has_a_name_parameters_and_documentation(client):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert [*endpoints] == ["/continue_audio"]
    endpoint = endpoints["/continue_audio"]
    parameters = {part["parameter_name"]: part["parameter_default"] for part in endpoint["parameters"]}
    assert parameters == {
        "prompt": None,
        "checkpoint": "both",
        "length_s": 7,
        "seed": 0,
        "num_continuations": 1,
        "acoustic_mode": None,
        **{f"{stage}_temperature": None for stage in ("semantic", "coarse", "fine", "parallel")},
    }
    assert endpoint["description"].startswith("Continue a recording. Returns audio files of prompt and continuation")
    assert [part["label"] for part in endpoint["returns"]] == ["Audio files", "Pictures", "Facts on each continuation"]


def test_a_prompt_is_continued_by_name_with_all_else_left_out(client):
    prompt = gradio_client.handle_file(str(CLIP))
    (path,), (picture,), (facts,) = client.predict(prompt=prompt, length_s=1, seed=5, api_name="/continue_audio")
    assert Path(path).name == "continuation-seed-5.wav" and read_audio(path)[0].shape[1] == 56000
    judged = {"verdict": "generated", "score": 0.007, "most_suspicious_s": [0.0, 0.98]}
    assert facts == {"seed": 5, "prompt_s": 2.5, "length_s": 3.5, **judged}
    found = audiolm_hf.read_provenance(path)
    assert found["seed"] == 5 and found["checkpoint"] == "both" and len(found["checkpoint_sha256"]) == 64
    assert Path(picture).read_bytes()[:4] == b"\x89PNG"


def test_the_code_of_the_readme_runs_as_printed(space, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_audio("prompt.wav", *read_audio(CLIP, 16000))
    (block,) = re.findall(r"```python\n(.*?)```", (SPACE / "README.md").read_text(), re.DOTALL)
    namespace = {}
    exec(block.replace('"user/name")', f"{space.url!r}, verbose=False, download_files={str(tmp_path)!r})"), namespace)
    namespace["client"].close()
    (path,), pictures, facts = (namespace[name] for name in ("files", "pictures", "facts"))
    assert read_audio(path)[0].shape[1] == 7 * 16000 + 40000 and len(pictures) == len(facts) == 1


@pytest.mark.slow
def test_ten_visitors_at_once_each_get_the_samples_of_their_prompt_and_seed(space, tmp_path):
    """As the pipeline generates them: each visitor has another second of the clip, and half of them another model."""
    samples, rate = read_audio(CLIP, 16000)
    visits = []
    for seed in range(10):
        start = seed * rate // 8
        prompt = write_audio(tmp_path / f"prompt{seed}.wav", samples[start : start + rate + 100 * seed], rate)
        visits.append((str(prompt), ["both", "one"][seed % 2], seed))

    def visit(asked):
        prompt, name, seed = asked
        client = connect(space)
        files, _, facts = client.predict(gradio_client.handle_file(prompt), name, 1, seed, api_name="/continue_audio")
        client.close()
        return read_audio(files[0])[0][0], facts[0]["seed"]

    with ThreadPoolExecutor(10) as pool:
        made = [*pool.map(visit, visits)]
    pipes = {name: audiolm_hf.pipeline(getattr(space, name), device="cpu") for name in ("both", "one")}
    for (prompt, name, seed), (audio, told) in zip(visits, made, strict=True):
        own = pipes[name](prompt, continuation_length_s=1.0, min_continuation_length_s=1.0, seed=seed)["audio"]
        assert told == seed and len(audio) == 2 * rate + 100 * seed
        np.testing.assert_allclose(audio, own, atol=1.01 / 2**15)  # of 16 bits


def test_the_client_is_told_what_is_wrong_without_paths_of_the_server(client, tmp_path):
    def refused(path, *options):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - gradio_client's own kind
            client.predict(path and gradio_client.handle_file(str(path)), *options, api_name="/continue_audio")
        assert str(tmp_path.parent) not in str(caught.value) and "/tmp" not in str(caught.value)
        return str(caught.value)

    (tmp_path / "notes.wav").write_text("no audio")
    assert re.match("The audio file '?notes.wav'? cannot be decoded", refused(tmp_path / "notes.wav"))
    assert "no prompt yet" in refused(None)
    assert "greater than maximum value 20" in refused(CLIP, "one", 1000)
    assert "is not in the list of choices" in refused(CLIP, "../secret")


def test_too_large_uploads_are_refused(client, tmp_path):
    large = tmp_path / "large.wav"
    large.write_bytes(bytes(21 * 2**20))
    with pytest.raises(Exception, match="(?i)413|too large|size"):
        client.predict(gradio_client.handle_file(str(large)), api_name="/continue_audio")


def test_nothing_is_written_outside_the_folder_of_the_process(space, client):
    client.predict(gradio_client.handle_file(str(CLIP)), "one", 1, api_name="/continue_audio")
    (own,) = (space.home / "tmp").glob("audiolm-hf-demo-*")
    assert files_in(space.home / "work") == [] and files_in(space.home / "tmp") == files_in(own)
    assert {path.name for path in own.iterdir()} == {"gradio", ".lock"}, (
        "results are left after Gradio has copied them"
    )


@pytest.mark.slow  # waits; that the page is told when to delete is in test_demo.py
def test_uploads_and_results_are_deleted_in_time(tmp_path):
    checkpoints = [export_checkpoint(tiny_model(), tiny_processor(), tmp_path / "one", with_code=False)]
    with serve(tmp_path, checkpoints, ("-c", DEMO_THAT_DELETES_SOON)) as url:
        client = connect(SimpleNamespace(url=url, home=tmp_path))
        files, pictures, _ = client.predict(
            gradio_client.handle_file(str(CLIP)), length_s=1, api_name="/continue_audio"
        )
        assert read_audio(files[0])[0].shape[1] == 56000 and len(pictures) == 1  # which were in that folder
        (own,) = (tmp_path / "tmp").glob("audiolm-hf-demo-*")
        deadline = time.monotonic() + WAIT_S
        while files_in(own / "gradio") and time.monotonic() < deadline:
            time.sleep(0.2)
        assert files_in(own / "gradio") == []
        client.close()


@pytest.mark.slow
def test_the_app_has_a_page_of_the_checkpoints_in_the_variable(space, tmp_path):
    """As a Space that imports it finds it."""
    code = "import app, gradio; print(callable(app.build_demo), isinstance(app.demo, gradio.Blocks))\n"
    code += "print([part.choices for part in app.demo.blocks.values() if getattr(part, 'label', '') == 'Checkpoint'])"
    place = {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{SPACE}", "CHECKPOINTS": f"{space.one} {space.both}"}
    found, choices = run_python(code, home=tmp_path, **place).splitlines()[-2:]
    assert found == "True True" and choices == "[[('one', 'one'), ('both', 'both')]]"


def test_the_header_is_that_of_a_space():
    header = yaml.safe_load((SPACE / "README.md").read_text().split("---")[1])
    assert header["sdk"] == "gradio" and header["license"] == "apache-2.0"
    assert (SPACE / header["app_file"]).is_file()
    assert f"gradio=={header['sdk_version']}\n" in (ROOT / "constraints.txt").read_text()
    assert len(header["short_description"]) <= 60
    says, requirement = (SPACE / "requirements.txt").read_text().splitlines()
    assert says.startswith("# The released version.") and requirement == "audiolm_hf[space,watermark]"
    assert (SPACE / "packages.txt").read_text().split() == ["ffmpeg"]


# In a browser, as a visitor.


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    if not all(programs):
        pytest.skip("chromium or chromedriver is missing (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    speech = write_audio(tmp_path_factory.mktemp("microphone") / "speech.wav", *read_audio(CLIP, 48000))
    arguments = ["headless=new", "no-sandbox", "disable-dev-shm-usage", f"use-file-for-fake-audio-capture={speech}"]
    for argument in (*arguments, "use-fake-device-for-media-stream", "use-fake-ui-for-media-stream"):
        options.add_argument(f"--{argument}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


class Visitor:
    """What a person does with the page, by the words on it."""

    def __init__(self, driver, url, size=DESKTOP, scheme="light"):
        self.driver = driver
        screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        driver.get(url)
        self.wait("input[type=file]")

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def find(self, selector, text=""):
        return [found for found in self.driver.find_elements("css selector", selector) if text in found.text]

    def wait(self, selector, text=""):
        return self.until(lambda: self.find(selector, text), f"{selector} with {text!r}")[0]

    def until(self, condition, what):
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(Exception):  # the page is changing
                if found := condition():
                    return found
            time.sleep(0.1)
        pytest.fail(f"The page has no {what} after {WAIT_S} s.")

    def press(self, text):
        button = self.wait("button", text)
        self.run("arguments[0].scrollIntoView({block: 'center'})", button)
        rectangle = "JSON.stringify(arguments[0].getBoundingClientRect())"
        place = f"return new Promise(tell => setTimeout(() => tell({rectangle}), 150))"
        self.until(lambda: self.run(place, button) == self.run(place, button), f"button {text} that stands still")
        button.click()

    def press_labelled(self, label):
        self.wait(f"button[aria-label='{label}']").click()

    def set_number(self, label, number):
        field = self.wait(f"input[type=number][aria-label*='{label}']")
        field.clear()
        field.send_keys(f"{number}\t")

    def set_length(self, seconds):
        self.set_number("Continuation, seconds", seconds)

    def ask_for_much(self):
        """Upload a prompt, and set the options for much audio: four continuations of 20 s."""
        self.upload(CLIP)
        self.prompt_is_shown()
        self.press("More options")
        self.set_number("Continuations", 4)
        self.set_length(20)

    def delay_requests(self, step_s):
        """Delay every further request to the server by `step_s` more than the one before, as a busy one may."""
        script = "const own = fetch; let wait = 0; window.waiting = 0; window.fetch = async (...given) => {"
        script += " waiting++; await new Promise(end => setTimeout(end, wait += 1000 * step));"
        script += " return own(...given).finally(() => waiting--) }"
        self.run(f"const step = {step_s}; {script}")

    def download(self, address):
        text = "return fetch(arguments[0]).then(reply => reply.arrayBuffer()).then(data => [...new Uint8Array(data)])"
        return bytes(self.run(text, address))

    def upload(self, path):
        self.find("input[type=file]")[0].send_keys(str(path))

    def prompt_is_shown(self):
        self.until(lambda: not self.find("button", "Click to Upload"), "waveform of the prompt")


@pytest.mark.browser
def test_a_visitor_uploads_hears_sees_and_downloads_a_continuation(browser, space):
    visitor = Visitor(browser, space.url)
    assert visitor.find("#notice", "All continuations are synthetic")
    visitor.upload(CLIP)
    visitor.prompt_is_shown()
    visitor.press("Continue")
    for stage in ("semantic stage", "coarse stage", "fine stage"):
        visitor.wait(".stages span", stage)
    visitor.wait(".stages b", "Generated in")
    picture = visitor.wait("#results img")
    visitor.until(lambda: visitor.run("return arguments[0].naturalWidth", picture) == 800, "picture")
    visitor.wait("#results", "Prompt + continuation 1, seed 0")
    visitor.wait("#results", "Detector: the continuation is generated (score 0.01")
    link = visitor.wait("#results a[download]").get_attribute("href")
    found = audiolm_hf.read_provenance(visitor.download(link))
    assert found["seed"] == 0 and found["checkpoint"] == "both"
    if shutil.which("ffmpeg"):  # which encodes the stream
        played = "return [...document.querySelectorAll('#results audio')].some(audio => audio.currentTime > 0.2)"
        visitor.until(lambda: visitor.run(played), "audio that plays while it is generated")


@pytest.mark.slow
@pytest.mark.browser
def test_a_visitor_records_with_the_microphone(browser, space):
    visitor = Visitor(browser, space.url)
    visitor.press_labelled("Record audio")
    visitor.wait("button.record-button", "Record").click()
    time.sleep(6)  # on a busy machine the browser begins late
    visitor.wait("button.stop-button", "Stop").click()
    visitor.until(lambda: not visitor.find("button.record-button", "Record"), "waveform of the recording")
    visitor.press("Continue")
    visitor.wait(".stages b", "Generated in")
    link = visitor.wait("#results a[download]").get_attribute("href")
    audio, rate = read_audio(visitor.download(link))
    recorded = audio[0, : audio.shape[1] - 7 * rate]
    assert len(recorded) > 2 * rate and np.abs(recorded).max() > 0.05  # the file plays in a loop; not silence


@pytest.mark.slow
@pytest.mark.browser
def test_a_visitor_stops_and_the_next_is_served(browser, space):
    visitor = Visitor(browser, space.url)
    visitor.ask_for_much()
    visitor.press("Continue")
    visitor.wait(".stages b", "Continuation 1 of 4")
    visitor.delay_requests(0.5)
    visitor.press("Stop")
    visitor.wait(".stages b", "Stopped.")
    (own,) = (space.home / "tmp").glob("audiolm-hf-demo-*")
    visitor.until(lambda: {path.name for path in own.iterdir()} == {"gradio", ".lock"}, "end of the stopped one")
    visitor.until(lambda: visitor.run("return !window.waiting"), "answers of the server")
    visitor.until(lambda: visitor.find(".stages b", "Stopped.") and not visitor.find("#results img"), "end")
    visitor.set_number("Continuations", 1)
    visitor.set_length(1)
    visitor.press("Continue")
    visitor.wait(".stages b", "Generated in")


@pytest.mark.slow
@pytest.mark.browser
def test_a_visitor_stops_before_the_server_has_answered_and_presses_again(browser, space):
    visitor = Visitor(browser, space.url)
    visitor.ask_for_much()
    visitor.delay_requests(0.3)
    press = "[...document.querySelectorAll('button')].find(button => button.innerText == text).click()"
    presses = f"for (const text of ['Continue', 'Stop', 'Continue']) {{ {press}; await pause() }}"
    pause = "const pause = () => new Promise(end => setTimeout(end, 100))"
    visitor.run(f"return (async () => {{ {pause}; {presses} }})()")
    visitor.until(lambda: visitor.run("return !window.waiting"), "answers of the server")
    (own,) = (space.home / "tmp").glob("audiolm-hf-demo-*")
    visitor.until(lambda: {path.name for path in own.iterdir()} == {"gradio", ".lock"}, "end of the stopped one")
    assert visitor.wait(".stages b").text == "Stopped."


@pytest.mark.browser
def test_a_visitor_is_told_that_a_text_is_no_audio(browser, space, tmp_path):
    visitor = Visitor(browser, space.url)
    (tmp_path / "notes.txt").write_text("no audio")
    visitor.upload(tmp_path / "notes.txt")
    visitor.wait(".toast-body", "Invalid file type: notes.txt")
    (tmp_path / "notes.wav").write_text("no audio")
    visitor.upload(tmp_path / "notes.wav")
    visitor.prompt_is_shown()
    visitor.press("Continue")
    text = visitor.wait(".toast-body", "cannot be decoded").text
    assert "notes.wav" in text
    visitor.wait(".stages b", "Nothing was generated.")
    assert not visitor.find("#results .error")  # which would cover it
    assert "/tmp" not in text and str(space.home) not in text


@pytest.mark.slow
@pytest.mark.browser
def test_a_visitor_picks_an_example_another_checkpoint_and_a_new_seed(browser, space):
    visitor = Visitor(browser, space.url)
    visitor.press("More options")
    visitor.wait("label", "Temperature of the coarse stage")
    visitor.wait("label", "parallel").click()
    visitor.wait("label", "Temperature of the parallel stage")
    visitor.until(lambda: not visitor.find("label", "Temperature of the coarse stage"), "options of the mode")
    visitor.wait("label", "one").click()
    visitor.until(lambda: not visitor.find("label", "Temperature of the parallel stage"), "options of the other")
    visitor.press("New seed")
    seed = "return Number(document.querySelector('input[aria-label=Seed]').value)"
    visitor.until(lambda: visitor.run(seed) > 0, "new seed")
    visitor.press("Example for both")
    visitor.prompt_is_shown()
    visitor.wait("label", "Temperature of the coarse stage")
    visitor.set_length(1)
    visitor.press("Continue")
    visitor.wait(".stages b", "Generated in")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_fits_the_screen_and_its_colours(browser, space, size, scheme):
    visitor = Visitor(browser, space.url, size, scheme)
    visitor.wait("button", "Continue")
    assert visitor.run("return document.documentElement.scrollWidth") <= size[0]
    wide = "return [...document.querySelectorAll('button, input, img, audio, label')].filter(part => part.offsetWidth)"
    right = f"{wide}.map(part => part.getBoundingClientRect().right)"
    assert max(visitor.run(right)) <= size[0]
    color = visitor.run("return getComputedStyle(document.body).backgroundColor")
    lightness = np.mean([int(part) for part in re.findall(r"\d+", color)[:3]])
    assert lightness > 200 if scheme == "light" else lightness < 60
