"""Relations between block strings, widths and the image size, checked before a model is built."""

from vdvae.settings.block_strings import DecoderBlockSpec, EncoderBlockSpec, Widths, parse_decoder_blocks, parse_encoder_blocks


def check_architecture(enc_blocks: str, dec_blocks: str, widths: Widths, image_size: int, bottleneck: float) -> None:
    """Raise ValueError, naming both sides, where the strings do not describe a model that trains all its weights."""
    encoder, decoder = parse_encoder_blocks(enc_blocks), parse_decoder_blocks(dec_blocks)
    produced = _check_encoder(encoder, image_size)
    _check_decoder(decoder, produced, image_size)
    _check_widths(encoder, decoder, widths, image_size, bottleneck)


def _check_encoder(encoder: list[EncoderBlockSpec], image_size: int) -> list[int]:
    current, produced = image_size, [image_size]
    for index, (resolution, down_rate) in enumerate(encoder):
        if resolution != current:
            raise ValueError(f"enc_blocks: block {index} works at {resolution}, but the features there are at {current}")
        if down_rate and resolution % down_rate:
            raise ValueError(f"enc_blocks: {resolution}d{down_rate}: {down_rate} does not divide {resolution}")
        current = resolution // (down_rate or 1)
        produced.append(current)
    return produced


def _check_decoder(decoder: list[DecoderBlockSpec], produced: list[int], image_size: int) -> None:
    seen: set[int] = set()
    waiting: set[int] = set()  # resolutions whose state still has to be mixed into a higher one
    for index, (resolution, mixin) in enumerate(decoder):
        if resolution not in produced:
            raise ValueError(f"dec_blocks: block {index} works at {resolution}; the encoder gives {sorted(set(produced))}")
        if mixin is not None:
            if mixin not in seen or mixin >= resolution or resolution % mixin:
                raise ValueError(f"dec_blocks: {resolution}m{mixin}: {mixin} must be the resolution of an earlier block, "
                                 f"below {resolution}, and divide it")
            waiting.discard(mixin)
        seen.add(resolution)
        waiting.add(resolution)
    if waiting != {image_size}:
        raise ValueError(f"dec_blocks: the states at {sorted(waiting)} reach the end, it must be just the image's {image_size}: "
                         "mix each resolution into a higher one after its last block")
    if produced[-1] not in seen:
        raise ValueError(f"enc_blocks end at resolution {produced[-1]}, dec_blocks never use it (they have {sorted(seen)})")


def _check_widths(encoder, decoder, widths: Widths, image_size: int, bottleneck: float) -> None:
    if widths[image_size] != widths.width:
        raise ValueError(f"custom_width_str gives {widths[image_size]} at the image's resolution {image_size}; "
                         f"it must equal width, {widths.width}")
    resolutions = [block.resolution for block in encoder]
    resolutions += [resolution // (rate or 1) for resolution, rate in encoder[-1:]]
    for high, low in zip(resolutions, resolutions[1:]):
        if widths[low] < widths[high]:
            raise ValueError(f"width {widths[low]} at resolution {low} is below {widths[high]} at {high}; "
                             "the encoder can only widen on its way down")
    for resolution, mixin in decoder:
        if mixin is not None and widths[mixin] < widths[resolution]:
            raise ValueError(f"dec_blocks: {resolution}m{mixin}: width {widths[mixin]} at {mixin} is below "
                             f"{widths[resolution]} at {resolution}")
    narrowest = min(widths[resolution] for resolution in resolutions)
    if int(narrowest * bottleneck) < 1:
        raise ValueError(f"bottleneck_multiple {bottleneck} leaves no channel of width {narrowest}")
