"""How good a judge is: any reward, or a model that compares, held against pairs whose better side is known."""
