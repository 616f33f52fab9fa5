"""The quickstart's inputs: a pretrained teacher, text that every Python has, and a student tokenizer of its own."""
