"""`recurra speech`: enhance, separate, live, mix; further verbs from the files beside this one."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from core.terminal import (
    OUTPUTS,
    Device,
    Json,
    OutFolder,
    Quiet,
    Seed,
    Threads,
    Weights,
    application,
    device,
    emit,
    say,
    say_all,
    set_threads,
)
from speech import model_commands, score_commands

app = application(
    "Separate talkers and remove noise, from files or live.\n\n"
    "Example: recurra speech enhance noisy.wav -o clean.wav"
)
Inputs = Annotated[list[str], typer.Argument(help="Sound files, folders, globs, or - for a list on stdin.")]
OutPath = Annotated[str, OUTPUTS]
RawRate = Annotated[int | None, typer.Option("--rate", help="Of raw samples, Hz (16000).")]
CHANNELS = "Channels of raw samples (1)."
RawKind = Annotated[
    str | None, typer.Option("--format", help="Of raw samples: s16 (but f32 in .f32), s24, s32, f32 or u8.")
]
Precision = Annotated[
    str, typer.Option("--precision", help="float32, or bfloat16 for large published networks.")
]
VoiceClip = Annotated[
    Path | None, typer.Option("--voice", help="A clip of the one talker to keep, 5 to 30 s of speech.")
]
Inside = Annotated[bool, typer.Option("--resume", help="Go on inside a file that was interrupted.")]
Again = Annotated[bool, typer.Option("--again", help="Also what is done already.")]


@app.command()
def enhance(
    inputs: Inputs,
    out: OutPath,
    channels: Annotated[
        str,
        typer.Option(
            "--channels", help="each, link (one gain for all) or mono (mixed down); a number: --channels-in."
        ),
    ] = "each",
    limit_db: Annotated[
        float | None, typer.Option("--limit-db", help="Largest attenuation in dB; 0 gives the input back.")
    ] = None,
    mix: Annotated[float, typer.Option("--mix", help="1 is all clean, 0 the input.")] = 1.0,
    voice: VoiceClip = None,
    precision: Precision = "float32",
    rate: RawRate = None,
    channels_in: Annotated[int | None, typer.Option("--channels-in", help=CHANNELS)] = None,
    format: RawKind = None,
    weights: Weights = None,
    again: Again = False,
    resume: Inside = False,
    threads: Threads = None,
    device_name: Device = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    json_path: Json = None,
) -> None:
    """Remove noise from recordings: rate, channels, subtype, length, level and tags stay.

    Example: recurra speech enhance calls/ -o clean/ --limit-db 18
    """
    from core.jobs import Job, finish, gather, mirror, run
    from speech.audio import MEDIA, RAW, SUFFIXES
    from speech.predict import enhance_file, enhancer, file_stream
    from speech.write import check_targets

    set_threads(threads)
    if channels.isdecimal():
        channels, channels_in = "each", int(channels) if channels_in is None else channels_in
    model = enhancer(weights, voice, 16000, str(device(device_name)))
    words: dict[str, Any] = {"channels": channels, "limit_db": limit_db, "mix": mix}
    file_stream(model, 16000, 1, precision=precision, **words)  # checks the words
    jobs = mirror(gather(inputs, SUFFIXES | MEDIA | RAW.keys()), out)
    check_targets([job.target for job in jobs])

    def work(job: Job) -> Any:
        return enhance_file(
            job.source.path,
            job.target,  # pyright: ignore[reportArgumentType]
            model,
            channels=channels,  # pyright: ignore[reportArgumentType]
            limit_db=limit_db,
            mix=mix,
            precision=precision,
            raw=raw_format(job.source.path, rate, channels_in, format),
            resume=resume,
        )

    done = run(jobs, work, "files", again=again or len(jobs) == 1, quiet=quiet)
    found = [result for _, result in done.results]
    say_all([remark for r in found for remark in r.remarks])
    say_all([f"{r.out}: {r.limited} samples were limited at full scale." for r in found if r.limited])
    lines = [f"{r.out}: {r.seconds:.1f} s, {r.attenuation_db:.1f} dB taken away" for r in found]
    result = {
        "files": [r.as_dict() for r in found],
        "skipped": [str(job.source.path) for job in done.skipped],
        "failed": [{"path": str(f.source.path), "error": str(f.error)} for f in done.failures],
    }
    if found or done.skipped or json_path:
        emit(result, json_path, lines)
    finish(done)


@app.command()
def separate(
    inputs: Inputs,
    out: OutPath,
    consistency: Annotated[
        bool, typer.Option("--consistency/--no-consistency", help="Tracks add up to the mixture.")
    ] = True,
    gate_db: Annotated[
        float | None, typer.Option("--gate-db", help="Silence a track this far below the others (-20).")
    ] = None,
    passes: Annotated[
        int | None,
        typer.Option("--passes", help="Passes of every window, 1 (fast) to 4; 4 for networks of ours."),
    ] = None,
    segments: Annotated[
        Path | None, typer.Option("--segments", help="Who speaks when, as .rttm or .json.")
    ] = None,
    precision: Precision = "float32",
    rate: RawRate = None,
    channels_in: Annotated[int | None, typer.Option("--channels-in", "--channels", help=CHANNELS)] = None,
    format: RawKind = None,
    weights: Weights = None,
    again: Again = False,
    resume: Inside = False,
    threads: Threads = None,
    device_name: Device = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    json_path: Json = None,
) -> None:
    """Write one file for each talker: OUT/<name>_s1.<ext>, OUT/<name>_s2.<ext>.

    Example: recurra speech separate meeting.wav -o tracks/ --segments who.rttm
    """
    from core.errors import ConfigError
    from core.jobs import Job, finish, gather, mirror, run
    from speech.audio import MEDIA, RAW, SUFFIXES
    from speech.model import load_model
    from speech.predict import separate_file
    from speech.separation import GATE_DB
    from speech.write import check_segments, check_targets, write_segments

    set_threads(threads)
    if segments is not None:
        check_segments(segments)
    model = load_model(weights, "separate", device(device_name))
    found_inputs = gather(inputs, SUFFIXES | MEDIA | RAW.keys())
    folder = out if Path(out).suffix else out.rstrip("/") + "/"
    jobs = mirror(found_inputs, folder)
    check_targets([job.target for job in jobs])

    def tracks(target: Path) -> list[Path]:
        return [target.with_name(f"{target.stem}_s{k + 1}{target.suffix}") for k in range(model.talkers)]

    def work(job: Job) -> Any:
        assert job.target is not None
        targets = tracks(job.target)
        if any(os.path.abspath(target) == os.path.abspath(job.source.path) for target in targets):
            raise ConfigError(f"{job.source.path}: the output would replace its input.")
        if not again and len(jobs) > 1 and all(Job(job.source, target).done for target in targets):
            return None
        return separate_file(
            job.source.path,
            targets,
            model,
            consistent=consistency,
            gate_db=GATE_DB if gate_db is None else gate_db,
            precision=precision,
            passes=passes,
            raw=raw_format(job.source.path, rate, channels_in, format),
            resume=resume,
        )

    done = run(jobs, work, "files", again=True, quiet=quiet)
    found = [result for _, result in done.results if result is not None]
    say_all([remark for r in found for remark in r.remarks])
    say_all([f"{r.path}: {r.limited} samples were limited at full scale." for r in found if r.limited])
    if segments is not None:
        write_segments(segments, found)
    lines = [
        f"{' '.join(r.out)}: {r.seconds:.1f} s, {r.talkers} talker{'' if r.talkers == 1 else 's'}"
        for r in found
    ]
    result = {
        "files": [r.as_dict() for r in found],
        "failed": [{"path": str(f.source.path), "error": str(f.error)} for f in done.failures],
    }
    if found or json_path:
        emit(result, json_path, lines)
    finish(done)


@app.command()
def live(
    rate: Annotated[int, typer.Option("--rate", help="Samples per second.")] = 16000,
    channels_in: Annotated[
        int, typer.Option("--channels-in", "--channels", help="Channels of the samples.")
    ] = 1,
    format: Annotated[str, typer.Option("--format", help="s16, s24, s32, f32 or u8.")] = "s16",
    card: Annotated[bool, typer.Option("--card", help="Microphone to loudspeaker, not pipes.")] = False,
    seconds: Annotated[float | None, typer.Option("--seconds", help="Stop after this long (card).")] = None,
    block_ms: Annotated[float, typer.Option("--block-ms", help="What is taken at once, ms.")] = 10.0,
    limit_db: Annotated[float | None, typer.Option("--limit-db", help="Largest attenuation in dB.")] = None,
    mix: Annotated[float, typer.Option("--mix", help="1 is all clean, 0 the input.")] = 1.0,
    task: Annotated[
        str, typer.Option("--task", help="enhance, or separate: one channel in, one for each talker out.")
    ] = "enhance",
    wait: Annotated[
        bool, typer.Option("--wait", help="Never pass a late block dry: for pipes that nobody listens to.")
    ] = False,
    voice: VoiceClip = None,
    weights: Weights = None,
    threads: Threads = 1,
    device_name: Device = None,
    seed: Seed = 0,
    json_path: Json = None,
) -> None:
    """Clean samples as they come: stdin to stdout, or the sound card. The report goes to stderr.

    Example: arecord -f S16_LE -r 16000 -t raw | recurra speech live | aplay -f S16_LE -r 16000
    """
    import sys

    from core.errors import ConfigError
    from speech.audio import RawFormat
    from speech.live import pipe, sound_card
    from speech.predict import open_live_separation, open_stream

    set_threads(threads)
    place = str(device(device_name))
    raw = RawFormat(rate, channels_in, format)
    if voice is not None and task != "enhance":
        raise ConfigError("a voice is kept by enhancement; leave out --voice or --task separate.")
    if task == "separate":
        stream = open_live_separation(weights, rate, channels_in, device=place)
    elif task == "enhance":
        words: dict[str, Any] = {"voice": voice, "limit_db": limit_db, "mix": mix}
        stream = open_stream(weights, rate, channels_in, device=place, **words)
    else:
        raise ConfigError(f"a task is enhance or separate, got {task!r}.")
    stream.warm()
    if card:
        report = sound_card(stream, block_ms, seconds)
    else:
        report = pipe(stream, raw, sys.stdin.buffer, sys.stdout.buffer, block_ms, patient=wait)
    say(str(report))
    if report.lost_bytes:
        say(f"the input ended inside a sample; {report.lost_bytes} bytes were left out.")
    if json_path:
        from core.files import write_text
        from core.text import in_json

        write_text(json_path, in_json(report.as_dict(), 2) + "\n")


@app.command()
def mix(
    data: Annotated[
        list[str] | None,
        typer.Argument(help="Indexes or folders of speech and noise; generated ones when left out."),
    ] = None,
    out: OutFolder = Path("mixtures"),
    law: Annotated[
        str, typer.Option("--law", help="voicebank-demand, dns, wsj0-2mix, librimix, wham or sparse.")
    ] = "voicebank-demand",
    count: Annotated[int, typer.Option("--count", min=1, help="Mixtures.")] = 60,
    split: Annotated[str, typer.Option("--split", help="Rows of the indexes to draw from.")] = "valid",
    snr_db: Annotated[str, typer.Option("--snr-db", help="SNRs in turn, dB.")] = "0,5,10,15",
    overlap: Annotated[float, typer.Option("--overlap", help="Share both talk, for sparse.")] = 0.5,
    reverb: Annotated[float, typer.Option("--reverb", help="Chance of a room.")] = 0.0,
    rooms: Annotated[
        list[str] | None,
        typer.Option("--rooms", help="Room responses, files or folders; generated when left out."),
    ] = None,
    mode: Annotated[str, typer.Option("--mode", help="min or max length of two talkers.")] = "min",
    threads: Threads = None,
    seed: Seed = 0,
    json_path: Json = None,
) -> None:
    """Write a data set by law, with an index and the recipe of every mixture.

    Example: recurra speech mix speech_index.csv noise_esc10/index.csv -o valid/ --law voicebank-demand
    """
    from core.errors import ConfigError
    from speech.data import read_corpora
    from speech.mixing import MixLaw, mixtures, read_rooms, write_set

    set_threads(threads)
    try:
        levels = tuple(float(part) for part in snr_db.split(","))
    except ValueError:
        raise ConfigError(f"--snr-db wants numbers separated by commas, got {snr_db!r}.") from None
    drawn = MixLaw(law, count, seed, snr_db=levels, overlap=overlap, reverb=reverb, mode=mode)
    found = mixtures(drawn, read_corpora(data or [], split), read_rooms(rooms or []))
    index = write_set(found, drawn, out)
    emit({"index": str(index), "count": count, "law": law}, json_path, [f"{index}: {count} mixtures"])


def raw_format(path: Path, rate: int | None, channels: int | None, format: str | None) -> Any:
    """What the raw samples of a file are, if any word says so; None if none does."""
    from dataclasses import replace

    from speech.audio import RAW, RawFormat

    words = {"rate": rate, "channels": channels, "format": format}
    said = {name: value for name, value in words.items() if value is not None}
    return replace(RawFormat(format=RAW.get(path.suffix.lower(), "s16")), **said) if said else None


app.command()(score_commands.evaluate)
app.command()(score_commands.score)
app.command("index")(score_commands.index)
app.command()(model_commands.train)
app.command("fine-tune")(model_commands.fine_tune)
app.command("import")(model_commands.import_)
app.command()(model_commands.export)
app.command()(model_commands.models)
app.command()(model_commands.units)
