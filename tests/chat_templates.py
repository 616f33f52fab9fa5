"""Chat templates of the kinds that models have, written for the tests."""

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m['content'] | trim if m['content'] else '' }}"
    "{% for call in m.tool_calls or [] %}\n<tool_call>\n{{ call.function | tojson }}\n</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}"
)

# Contents between spaces, the system's before the last question; one mark ends an answer.
INSTRUCT = (
    "{{ bos_token }}{% set system = messages[0]['content'] if messages[0]['role'] == 'system' else none %}"
    "{% for m in messages %}"
    "{% if m['role'] == 'user' %}[INST] {% if loop.last or loop.index0 >= messages | length - 2 %}"
    "{% if system %}{{ system }}\n\n{% endif %}{% endif %}{{ m['content'] }} [/INST]"
    "{% elif m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)

# Answers in capitals, thoughts left out, today's date.
SHOUTING = (
    "{{ strftime_now('%d %b %Y') }}{% for m in messages %}<s>{{ m['role'] }}: "
    "{{ m['content'] | upper if m['role'] == 'assistant' else m['content'] }}</s>{% endfor %}"
)

STRICT = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
)
