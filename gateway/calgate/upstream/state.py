"""The states of a connection to a document server."""

from enum import Enum


class State(Enum):
    """The state of a connection. A failed exchange is never continued, and its connection never used again.

    | state    | event                                                      | next     |
    |----------|------------------------------------------------------------|----------|
    | IDLE     | `begin` writes a request                                   | SENT     |
    | IDLE     | the connection ends                                        | CLOSED   |
    | SENT     | the first byte of the response arrives                     | HEAD     |
    | SENT     | the connection ends (Stale), the deadline passes           | FAILED   |
    | HEAD     | the head is complete, a body follows                       | BODY     |
    | HEAD     | the head is complete, the response has no body             | COMPLETE |
    | HEAD     | the server switches protocols (101)                        | UPGRADED |
    | HEAD     | malformed, the connection ends, the deadline passes        | FAILED   |
    | BODY     | the body is complete, or ends cleanly with the connection  | COMPLETE |
    | BODY     | malformed, the connection ends early, the deadline passes  | FAILED   |
    | COMPLETE | the reader took the whole body                             | IDLE     |
    | COMPLETE | the same, but the connection cannot be used again          | CLOSED   |
    | UPGRADED | `hand_over` gives the transport away                       | CLOSED   |
    | UPGRADED | the connection ends first                                  | FAILED   |
    """

    IDLE = "idle"
    SENT = "sent"
    HEAD = "head"
    BODY = "body"
    COMPLETE = "complete"
    UPGRADED = "upgraded"
    FAILED = "failed"
    CLOSED = "closed"
