"""Programs that people point at an OpenAI address read our answers with their own parsers (J-70): a command-line assistant, two agent
frameworks, the Hugging Face client. The official Python SDK has a suite of its own (openai_test.py); the Node SDK is not in the
package registries that these checks may use."""
import asyncio
import os
import subprocess
import sys
import tempfile
import unittest

import agents
import openai
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from smolagents import ChatMessage, OpenAIModel

from harness import USER, Worker, main, text_of

MODEL = "builtin:haiku"
SETTINGS = {"temperature": 0, "max_tokens": 60}
PROMPT = USER[0]["content"]


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.w = Worker("--strict-model")
        cls.base = cls.w.url + "/v1"
        # What they must all arrive at, from the native API, which none of them speaks.
        cls.text = text_of(cls.w.generate(messages=USER, temperature=0, max_tokens=60))
        assert cls.text.count("\n") == 2, cls.text

    @classmethod
    def tearDownClass(cls):
        cls.w.stop()

    def test_hugging_face_s_client(self):
        client = InferenceClient(base_url=self.base, api_key="x")
        whole = client.chat_completion(USER, model=MODEL, **SETTINGS)
        self.assertEqual((whole.choices[0].message.content, whole.choices[0].finish_reason), (self.text, "stop"))
        parts = list(client.chat_completion(USER, model=MODEL, stream=True, stream_options={"include_usage": True}, **SETTINGS))
        pieces = [p.choices[0].delta.content for p in parts if p.choices and p.choices[0].delta.content]
        self.assertEqual("".join(pieces), self.text)
        self.assertGreater(len(pieces), 5)
        self.assertEqual(parts[-1].usage.completion_tokens, whole.usage.completion_tokens)
        with self.assertRaises(HfHubHTTPError) as refused:
            client.chat_completion(USER, model="another")
        self.assertEqual(refused.exception.response.status_code, 404)

    def test_smolagents(self):
        model = OpenAIModel(model_id=MODEL, api_base=self.base, api_key="x", **SETTINGS)
        said = [ChatMessage(role="user", content=[{"type": "text", "text": PROMPT}])]
        whole = model.generate(said)
        self.assertEqual(whole.content, self.text)
        self.assertEqual("".join(d.content or "" for d in model.generate_stream(said)), self.text)
        self.assertGreater(whole.token_usage.output_tokens, 5)

    def test_the_agents_sdk(self):
        agents.set_tracing_disabled(True)

        async def ask():
            client = openai.AsyncOpenAI(base_url=self.base, api_key="x")
            agent = agents.Agent(name="poet", instructions=None, model=agents.OpenAIChatCompletionsModel(model=MODEL, openai_client=client), model_settings=agents.ModelSettings(include_usage=True, **SETTINGS))
            result, deltas = agents.Runner.run_streamed(agent, PROMPT), []
            async for event in result.stream_events():
                if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                    deltas.append(event.data.delta)
            return result, deltas

        result, deltas = asyncio.run(ask())
        self.assertEqual((result.final_output, "".join(deltas)), (self.text, self.text))
        self.assertGreater(result.context_wrapper.usage.output_tokens, 5)

    def test_llm_on_the_command_line(self):
        with tempfile.TemporaryDirectory() as d:
            with open(f"{d}/extra-openai-models.yaml", "w") as f:
                f.write(f"- model_id: ours\n  model_name: {MODEL}\n  api_base: {self.base}\n")

            def llm(*arguments):
                env = os.environ | {"LLM_USER_PATH": d, "OPENAI_API_KEY": "x"}
                r = subprocess.run([f"{os.path.dirname(sys.executable)}/llm", *arguments, "-o", "temperature", "0", "-o", "max_tokens", "60"], capture_output=True, text=True, env=env, timeout=60)
                self.assertEqual(r.returncode, 0, r.stderr)
                return r.stdout.rstrip("\n")

            self.assertEqual(llm("-m", "ours", PROMPT), self.text)
            self.assertEqual(llm("-m", "ours", "--no-stream", PROMPT), self.text)
            again = llm("-c", "Write a haiku about tea")  # goes on in the conversation that it kept
            turns = [*USER, {"role": "assistant", "content": self.text}, {"role": "user", "content": "Write a haiku about tea"}]
            self.assertEqual(again, text_of(self.w.generate(messages=turns, temperature=0, max_tokens=60)))


if __name__ == "__main__":
    main()
