"""Labels through an HTTP server that the user runs, with the chat API that vLLM and SGLang share with OpenAI."""
