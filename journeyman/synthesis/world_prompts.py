"""What the model is asked while it makes a world (#5)."""

TESTS_BELOW = "# tests"
"""Between a function and its tests."""
DECOMPOSE = """Think of {count} questions that users ask in this scenario, for which one has to look several things up:
some with one step, some whose steps build on each other, some with steps side by side.
Scenario: {scenario}
Reply with a JSON object: {{"questions": [{{"question": "...", "steps": ["first sub-question", "..."]}}]}}"""
DOCUMENT = """Write documents of tools that answer the sub-questions of this question, one tool for each kind.
Question: {question}
Sub-questions:
{steps}
Tools there are already, not to be written again: {known}
Reply with a JSON object: {{"tools": [{{"name": "snake_case", "description": "...", "parameters": JSON Schema}}]}}"""
SCALE = """Make this tool's document harder to use well: keep its name and parameters, and add parameters that change what
it returns, with defaults where they make sense.
Document: {spec}
Reply with a JSON object: the new document, with the keys "name", "description", "parameters"."""
DISTRACT = """Write documents of {count} more tools of the same world that do something else and could be mistaken for these.
Tools: {known}
Reply with a JSON object: {{"tools": [{{"name": "snake_case", "description": "...", "parameters": JSON Schema}}]}}"""
DEPLOY = """Write the tool of this document as one Python function, without network, files, time or chance. It holds the
data that it needs itself, and raises ValueError for what it can't do. Below it, behind the line `# tests`, write asserts
that compare what it returns with values. Parameters have types (str, int, float, bool, list, dict); there is a docstring.
Document: {spec}
Reply with one Python code block."""
GROUND = """Which calls answer this question? Give the arguments as they are, also where they come from an earlier call.
Question: {question}
Sub-questions:
{steps}
Tools: {specs}
The answer is short and stands in what the last call returns.
Reply with a JSON object: {{"calls": [{{"name": "...", "arguments": {{...}}}}], "answer": "..."}}"""
