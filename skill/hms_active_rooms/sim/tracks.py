"""What a role lets a peer publish, as tracks."""

from __future__ import annotations

from collections.abc import Sequence

from hms_active_rooms.sim.clock import IdSource
from hms_active_rooms.sim.records import Medium, Peer, Track


def publish(media: Sequence[Medium], started_at: str, ids: IdSource) -> list[Track]:
    """Tracks for the media. Audio and camera share a stream; a screen has its own."""
    stream_id = ids.uuid() if media else ""
    return [
        Track(
            id=ids.uuid(),
            stream_id=ids.uuid() if medium == "screen" else stream_id,
            type="audio" if medium == "audio" else "video",
            source="screen" if medium == "screen" else "regular",
            started_at=started_at,
        )
        for medium in media
    ]


def republish(peer: Peer, media: Sequence[Medium], started_at: str, ids: IdSource) -> None:
    """After a role change: stop what the new role may not publish, start what it adds.

    Nobody's screen is shared without their doing, so a screen is never started.
    """
    kept = [track for track in peer.tracks if _medium(track) in media]
    running = {_medium(track) for track in kept}
    starting = [medium for medium in media if medium not in running and medium != "screen"]
    added = publish(starting, started_at, ids)
    stream_ids = [track.stream_id for track in kept if track.source == "regular"]
    if stream_ids:
        for track in added:
            track.stream_id = stream_ids[0]
    peer.tracks = kept + added


def _medium(track: Track) -> Medium:
    return "screen" if track.source == "screen" else track.type
