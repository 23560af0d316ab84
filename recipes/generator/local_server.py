"""A LLaVA of Transformers behind the requests that llama.cpp answers, so that both are explained by the same call."""

import base64
import io
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch
from PIL import Image
from transformers.models.clip.modeling_clip import CLIPVisionEmbeddings


class ClassTokenLast(CLIPVisionEmbeddings):
    """What llama.cpp does (its issue 25814): the class token stands last, positions and choices as if it stood first.

    So each patch has the position of its neighbor, the first patch is left out, and the class token is read as the last
    patch.
    """

    def forward(self, pixel_values, interpolate_pos_encoding=False):
        positions = self.position_embedding(self.position_ids)
        states = super().forward(pixel_values, interpolate_pos_encoding) - positions
        return torch.cat([states[:, 1:], states[:, :1]], dim=1) + positions


class LocalAnswers:
    """Answers requests of ``chat/completions`` with log-probabilities, with grammars of ids, and of ``tokenize``."""

    def __init__(self, model, processor):
        self.model = model
        self.processor = processor
        self.lock = threading.Lock()

    def respond(self, path, body):
        if path == "/tokenize":
            ids = self.ids(body["content"])
            return {"tokens": [{"id": number, "piece": self.piece(number)} for number in ids]}

        with self.lock, torch.inference_mode():
            inputs = self.inputs(body["messages"])
            forced = [int(number) for number in re.findall(r"<\[(\d+)\]>", body.get("grammar", ""))]
            ids, rows = self.written(inputs, forced, body["max_tokens"])
        entries = [self.entry(number, row, body["top_logprobs"]) for number, row in zip(ids, rows, strict=True)]
        choice = {
            "message": {"role": "assistant", "content": self.processor.tokenizer.decode(ids, skip_special_tokens=True)},
            "logprobs": {"content": entries},
        }
        return {"choices": [choice], "usage": {"prompt_tokens": inputs["input_ids"].shape[1]}}

    def inputs(self, messages):
        """What the model reads of the question, and of the start of an answer."""
        user, *rest = messages
        parts = [{"type": "image"} if part["type"] == "image_url" else part for part in user["content"]]
        images = [image_of(part["image_url"]["url"]) for part in user["content"] if part["type"] == "image_url"]
        asked = [{"role": "user", "content": parts}]
        text = self.processor.apply_chat_template(asked, add_generation_prompt=True)
        inputs = dict(self.processor(text=text, images=images or None, return_tensors="pt"))
        for message in rest:
            inputs["input_ids"] = self.followed_by(inputs["input_ids"], self.ids(message["content"]))
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        return inputs

    def written(self, inputs, forced, most):
        """The tokens that are written, with the log-probabilities of all tokens at the place of each."""
        if forced:
            ids = self.followed_by(inputs["input_ids"], forced)
            logits = self.model(**inputs | {"input_ids": ids, "attention_mask": torch.ones_like(ids)}).logits[0]
            return forced, logits[-len(forced) - 1 : -1].log_softmax(-1)

        ids = []
        rows = []
        end = self.model.config.text_config.eos_token_id
        while len(ids) < most and end not in ids:
            so_far = self.followed_by(inputs["input_ids"], ids)
            logits = self.model(**inputs | {"input_ids": so_far, "attention_mask": torch.ones_like(so_far)}).logits[0]
            rows.append(logits[-1].log_softmax(-1))
            ids.append(int(rows[-1].argmax()))
        return ids, rows

    def entry(self, number, row, top):
        """The entry of a token, with the most probable ones."""
        shown = [self.one(int(token), row) for token in row.argsort(descending=True)[:top]]
        return {**self.one(number, row), "top_logprobs": shown}

    def one(self, number, row):
        piece = self.piece(number)
        return {"id": number, "token": piece, "bytes": list(piece.encode()), "logprob": float(row[number])}

    def ids(self, text):
        return self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]

    def piece(self, number):
        """The text of a token, as llama.cpp shows it: that of special tokens is empty."""
        text = self.processor.tokenizer.decode([number], skip_special_tokens=True)
        return f" {text}" if text else ""

    @staticmethod
    def followed_by(ids, more):
        return torch.cat([ids, torch.tensor([more], dtype=ids.dtype)], dim=1)


def image_of(address):
    """The image of a data address."""
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


@contextmanager
def serving(answers):
    """Serve inside ``with``; gives the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            data = json.dumps(answers.respond(self.path, body)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
