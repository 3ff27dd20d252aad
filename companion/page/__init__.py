"""What the pages of the book need: figures, sliders, checked equations, exercises. It imports the science."""
